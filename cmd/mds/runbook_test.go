package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runbookPages are the pages of docs/runbook, by the name of their alert.
func runbookPages(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(runbook)
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string]string)
	for _, e := range entries {
		pages[strings.TrimSuffix(e.Name(), ".md")] = readFile(t, filepath.Join(runbook, e.Name()))
	}
	return pages
}

// TestRunbook: each alert has a page that says what it means, how it is seen, what to do and
// when it clears; each page has an alert, and is in the table of docs/deploy.md.
func TestRunbook(t *testing.T) {
	pages := runbookPages(t)
	list := readFile(t, "../../docs/deploy.md")
	for _, a := range alerts(t) {
		page, ok := pages[a.Alert]
		if !ok {
			t.Errorf("%s has no page", a.Alert)
			continue
		}
		delete(pages, a.Alert)
		if want := "https://github.com/marketdatastore/mds/blob/main/docs/runbook/" + a.Alert + ".md"; a.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %s", a.Alert, a.Annotations["runbook_url"])
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: severity %q, %+v", a.Alert, s, a.Annotations)
		}
		for _, part := range []string{"# " + a.Alert + "\n", "\n## What it means\n", "\n## How to see it\n", "\n## What to do\n", "\n## When it clears\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("the page of %s has no %q", a.Alert, strings.TrimSpace(part))
			}
		}
		if !strings.Contains(list, "| ["+a.Alert+"](runbook/"+a.Alert+".md) | "+a.Labels["severity"]+" |") {
			t.Errorf("docs/deploy.md does not list %s, %s", a.Alert, a.Labels["severity"])
		}
	}
	for name := range pages {
		t.Errorf("docs/runbook/%s.md is of no alert", name)
	}
}

var (
	code     = regexp.MustCompile("(?s)```(?:sh|bash|ini)\n(.*?)```|`([^`\n]+)`")
	commands = regexp.MustCompile("(?m)(?:^|[ (;&|/])mds ([a-z][^|>;&)\n]*)")
)

// commandsOf are the command lines of the program in a page, without its name.
func commandsOf(page string) (list []string) {
	for _, block := range code.FindAllStringSubmatch(page, -1) {
		for _, m := range commands.FindAllStringSubmatch(strings.ReplaceAll(block[1]+block[2], "\\\n", " "), -1) {
			line, _, _ := strings.Cut(m[1], "#")
			// What stands before it may be an account or an image of the same name.
			list = append(list, strings.TrimSpace(strings.TrimPrefix(line, "mds ")))
		}
	}
	return list
}

// unknownIn tells what of a command line is no command and no flag; "" for nothing.
func unknownIn(root *cobra.Command, line string) string {
	cmd := root
	words := strings.Fields(line)
	for i, word := range words {
		j := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		if j < 0 {
			if i == 0 || cmd.HasSubCommands() && !strings.HasPrefix(word, "-") {
				return word
			}
			break
		}
		cmd = cmd.Commands()[j]
	}
	for _, word := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		var flag *pflag.Flag
		switch {
		case word == "--help":
			continue
		case strings.HasPrefix(word, "--"):
			flag = cmd.Flag(name)
		case len(word) == 2 && word[0] == '-':
			flag = cmd.Flags().ShorthandLookup(name)
		default:
			continue
		}
		if flag == nil {
			return word
		}
	}
	return ""
}

// TestCommandsInPages: the commands that the pages on running it name are there, with their
// flags.
func TestCommandsInPages(t *testing.T) {
	pages := runbookPages(t)
	pages["deploy.md"] = readFile(t, "../../docs/deploy.md")
	for _, name := range []string{"mds.service", "mds.env.example", "setup.sh", "Dockerfile", "prometheus/prometheus.yml"} {
		pages[name] = "```sh\n" + regexp.MustCompile(`(?m)#.*`).ReplaceAllString(readFile(t, filepath.Join(deployed, name)), "") + "```"
	}
	root := (&app{}).rootCommand()
	for name, page := range pages {
		for _, line := range commandsOf(page) {
			if word := unknownIn(root, line); word != "" {
				t.Errorf("%s: of mds %s there is no %s", name, line, word)
			}
		}
	}
	for line, want := range map[string]string{
		"serve --listen :80 --tls-cert=a": "", "dlq list --all-tenants": "", "dlq lists": "lists", "serf": "serf",
		"ping --servers x": "--servers", "tail bars -n 5": "", "tail bars -y 5": "-y", "keys create --scopes admin": "",
	} {
		wantText(t, "unknown in "+line, unknownIn(root, line), want)
	}
	if got := strings.Join(commandsOf("a `mds ping` b\n```sh\nsudo -u mds mds keys list --json | mds x y # z\ndocker run -v mds:/var/lib/mds mds ping\n```\n"), ", "); got != "ping, keys list --json, x y, ping" {
		t.Errorf("commands are %s", got)
	}
}

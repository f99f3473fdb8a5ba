package mds_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/config"
)

// TestKindsPage: the tables of docs/kinds.md are those of the schemas.
func TestKindsPage(t *testing.T) {
	page, err := os.ReadFile("docs/kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		columnTable(mds.SchemaOf[mds.Bar]()), columnTable(mds.SchemaOf[mds.OptionSnap]()),
		columnTable(mds.SchemaOf[mds.Fundamentals]()), columnTable(mds.SchemaOf[mds.News]()),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/kinds.md lacks the table\n%s", want)
		}
	}
}

// columnTable describes a kind's columns as the page does.
func columnTable[R any](schema mds.Schema[R]) string {
	var b strings.Builder
	b.WriteString("| column | | what | also read as |\n|---|---|---|---|\n")
	for i := range schema.Columns {
		c := &schema.Columns[i]
		role := map[mds.Role]string{mds.Identity: "key", mds.Key: "key", mds.Revision: "key", mds.Time: "key", mds.Value: "optional"}[c.Role]
		switch {
		case c.Role == mds.Time && schema.TimeIsValue, c.Role == mds.Value && !c.Optional():
			role = "required"
		case c.Derived:
			role = "key, derived"
		case c.Default != "":
			role = "key, else `" + c.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, role, c.Doc, strings.Join(c.Aliases, ", "))
	}
	return b.String()
}

// TestConfigurationPage: the tables of docs/configuration.md are those of the settings.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range settingTables() {
		if !strings.Contains(string(page), table) {
			t.Errorf("docs/configuration.md lacks\n%s", table)
		}
	}
}

// settingTables describe the settings as the page does, section by section.
func settingTables() []string {
	var tables []string
	var b strings.Builder
	in := ""
	for _, s := range config.List() {
		section, name, _ := strings.Cut(s.Key, ".")
		if section != in {
			if in != "" {
				tables = append(tables, b.String())
			}
			b.Reset()
			fmt.Fprintf(&b, "### [%s]\n\n| in the file | environment | flag | default | |\n|---|---|---|---|---|\n", section)
			in = section
		}
		code := func(text, before string) string {
			if text == "" {
				return ""
			}
			return "`" + before + text + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", name, s.Env, code(s.Flag, "--"), code(s.Default, ""), s.Doc)
	}
	return append(tables, b.String())
}

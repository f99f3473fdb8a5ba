package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
)

// settingFlag is the value of a flag that stands for a setting: what it may be the
// settings know.
type settingFlag struct {
	key, text string
	given     bool
	to        *string // gets the setting, whatever has set it; nil where nobody asks
}

func (f *settingFlag) String() string     { return f.text }
func (f *settingFlag) Type() string       { return "string" }
func (f *settingFlag) Set(s string) error { f.text, f.given = s, true; return nil }

// addSetting adds the flag of a setting, described as the table does, which gets it from
// wherever it was set.
func addSetting(flags *pflag.FlagSet, key string, to *string) {
	rows := config.List()
	s := rows[slices.IndexFunc(rows, func(s config.Setting) bool { return s.Key == key })]
	flags.Var(&settingFlag{key: key, text: s.Default, to: to}, s.Flag, fmt.Sprintf("%s (environment %s, in the file %s)", s.Doc, s.Env, key))
}

// withoutSettings are commands that need none: what is wrong with those that there are
// must not keep people from help, nor from finding it.
var withoutSettings = []string{"help", "version", "completion", "config", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// configure reads the settings, before the command does anything.
func (a *app) configure(cmd *cobra.Command, _ []string) error {
	for c := cmd; c.HasParent(); c = c.Parent() {
		if slices.Contains(withoutSettings, c.Name()) && !c.Parent().HasParent() {
			return nil
		}
	}
	return a.putInForce(cmd)
}

// putInForce reads the settings, and settles which store they name.
func (a *app) putInForce(cmd *cobra.Command) error {
	s, err := config.Load(a.sources(cmd.Flags()))
	if err != nil {
		return usageError{err}
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", warning)
	}
	a.settings, a.dsnGiven = s, cmd.Flags().Changed("dsn")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f, ok := f.Value.(*settingFlag); ok && f.to != nil {
			*f.to = s.Text(f.key)
		}
	})
	return a.chooseStore(cmd)
}

// sources are where the settings of a command come from.
func (a *app) sources(flags *pflag.FlagSet) config.Sources {
	src := config.Sources{File: a.configFile, Environment: a.env, Flags: make(map[string]string), Redact: store.Redact}
	if src.File == "" {
		src.File = a.env[config.FileEnv]
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if s, ok := f.Value.(*settingFlag); ok && s.given {
			src.Flags[s.key] = s.text
		}
	})
	return src
}

func (a *app) configCommand() *cobra.Command {
	cmd := group("config", "Check the configuration file, and print the settings that are in force", a.configCheckCommand(), a.configPrintCommand(), a.configServerCommand())
	cmd.Long = `Check the configuration file, and print the settings that are in force.

The file is the one that --config or MDS_CONFIG names; there is none otherwise. It is TOML,
and mds config print --defaults writes one to start from. Flags go before the environment,
and that before the file.`
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Tell all that is wrong with the file and the environment, without opening a store",
		Long: `Tell all that is wrong with the file and the environment, each fault in a line with its
place, without opening a store. Exit status: 0 nothing is wrong, 2 something is.`,
		Example: "  mds config check /etc/mds/mds.toml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src := a.sources(cmd.Flags())
			if len(args) > 0 {
				src.File = args[0]
			}
			return a.checkConfig(src)
		},
	}
}

func (a *app) checkConfig(src config.Sources) error {
	what := "the environment"
	if src.File != "" {
		what = src.File
	}
	for _, warning := range config.Unknown(a.env) {
		fmt.Fprintf(a.stderr, "warning: %s\n", warning)
	}
	s, err := config.Load(src)
	if err == nil {
		for _, warning := range s.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", warning)
		}
		err = s.Verify()
	}
	var wrong *config.FaultsError
	if errors.As(err, &wrong) {
		for _, f := range wrong.Faults {
			fmt.Fprintln(a.stdout, f)
		}
		return usagef("%s: %s", what, plural(int64(len(wrong.Faults)), "fault"))
	}
	if err == nil {
		fmt.Fprintf(a.stdout, "%s: nothing is wrong\n", what)
	}
	return err
}

func (a *app) configPrintCommand() *cobra.Command {
	var defaults, asJSON bool
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the settings in force as a file, with where each comes from, without passwords",
		Example: `  mds config print --config mds.toml
  mds config print --defaults > mds.toml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults && asJSON {
				return usagef("--defaults is a file to write settings into, and --json tells those in force: give one of them")
			}
			if defaults {
				return config.Template(a.stdout)
			}
			s, err := config.Load(a.sources(cmd.Flags()))
			if err != nil {
				return usageError{err}
			}
			for _, warning := range s.Warnings {
				fmt.Fprintf(a.stderr, "warning: %s\n", warning)
			}
			if asJSON {
				return writeJSON(a.stdout, client.Settings{Settings: shownSettings(s)})
			}
			return s.Print(a.stdout)
		},
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "print a file that sets nothing, with all that can be set as comments")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func (a *app) configServerCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Print the settings that are in force at the server of --server, without passwords",
		Long: `Print the settings that are set at the server of --server (MDS_SERVER), and where each
comes from, without passwords; with --json also the defaults. It takes an API key of who
looks after the store.`,
		Example: "  mds config server --server https://mds.example.com:8443",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.putInForce(cmd); err != nil {
				return err
			}
			return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, _ mds.Tenant) error {
				list, err := s.Settings(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, client.Settings{Settings: list})
				}
				t := &table{header: []string{"setting", "value", "from"}, right: make([]bool, 3)}
				for _, row := range list {
					if row.From != "default" {
						t.add(row.Key, oneLine(row.Value), oneLine(row.From))
					}
				}
				return t.write(a.stdout)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document, with the defaults")
	return cmd
}

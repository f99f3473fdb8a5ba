package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/remote"
)

// storeInfo is what mds info tells.
type storeInfo struct {
	mds.StoreInfo
	Kinds []mds.KindInfo `json:"kinds"`
}

func (a *app) infoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Describe the store: where it is, how large, what it holds",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withStore(ctx, reading, func(s *session) error {
				info, err := collectInfo(ctx, s)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, info)
				}
				info.print(a.stdout)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func collectInfo(ctx context.Context, s *session) (storeInfo, error) {
	base, err := s.Info(ctx, s.tenant)
	if err != nil {
		return storeInfo{}, err
	}
	all := storeInfo{StoreInfo: base}
	for _, k := range kinds() {
		info, err := k.info(ctx, s)
		if err != nil {
			return storeInfo{}, err
		}
		all.Kinds = append(all.Kinds, info)
	}
	return all, nil
}

func (i storeInfo) print(w io.Writer) {
	fmt.Fprintf(w, "store        %s\n", i.Location)
	fmt.Fprintf(w, "engine       %s, schema version %d\n", i.Engine, i.SchemaVersion)
	fmt.Fprintf(w, "tenant       %s (%s)\n", i.Tenant, i.TenantID)
	if i.Bytes > 0 { // a server does not tell what is of all tenants
		fmt.Fprintf(w, "size         %s\n", size(i.Bytes))
	}
	for _, k := range i.Kinds {
		line := fmt.Sprintf("%-12s %s rows in %s series", k.Kind, count(k.Rows), count(k.Series))
		if k.First != nil && k.Last != nil {
			line += fmt.Sprintf(", %s to %s UTC", displayTime(*k.First, false), displayTime(*k.Last, false))
		}
		fmt.Fprintln(w, line)
	}
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (a *app) pingCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ping",
		Short: "Check that the store opens and answers",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				start := time.Now()
				if err := s.Ping(cmd.Context(), s.tenant); err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "%s answers for tenant %s in %s\n", s.dsn, s.tenant.Slug, time.Since(start).Round(time.Microsecond))
				return nil
			})
		},
	}
}

func (a *app) schemaVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema-version",
		Short: "Print the schema version of the store",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				version, err := s.SchemaVersion(cmd.Context(), s.tenant)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, version)
				return nil
			})
		},
	}
}

// health is the state of the store as monitoring reads it.
type health struct {
	Service    string      `json:"service"`
	State      string      `json:"state"`
	Components []component `json:"components"`
	Version    string      `json:"version"`
	TS         float64     `json:"ts"` // seconds since 1970
}

type component struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

func (a *app) healthCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Report the state of the store's parts; exit status 1 if unhealthy",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := a.health(cmd.Context())
			if asJSON {
				if err := writeJSON(a.stdout, h); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(a.stdout, h.State)
				for _, c := range h.Components {
					fmt.Fprintf(a.stdout, "  %-12s %s", c.Name, c.State)
					if c.Reason != "" {
						fmt.Fprintf(a.stdout, ": %s", c.Reason)
					}
					fmt.Fprintln(a.stdout)
				}
			}
			if h.State == "unhealthy" {
				return errors.New("the store is unhealthy")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// add adds a part: the whole is as well as the worst of them.
func (h *health) add(c component) {
	h.Components = append(h.Components, c)
	if c.State == "unhealthy" || c.State == "degraded" && h.State == "healthy" {
		h.State = c.State
	}
}

// health opens the store and reads from it. It reports an error as a state,
// since that is the answer.
func (a *app) health(ctx context.Context) health {
	h := health{Service: "mds", State: "healthy", Version: version(), TS: float64(time.Now().UnixMilli()) / 1000}
	report := func(name string, err error) {
		c := component{Name: name, State: "healthy"}
		var locked *duckdb.LockedError
		switch {
		case errors.As(err, &locked):
			// Another process writes: the store is fine, and out of reach.
			c.State, c.Reason = "degraded", a.sentence(err)
		case err != nil:
			c.State, c.Reason = "unhealthy", a.sentence(err)
		}
		h.add(c)
	}
	err := a.withStore(ctx, reading, func(s *session) error {
		if err := s.Ping(ctx, s.tenant); err != nil {
			return err
		}
		if server, ok := s.Backend.(*remote.Store); ok {
			return h.addServer(ctx, server)
		}
		for _, k := range kinds() {
			_, err := k.info(ctx, s)
			report(k.name, err)
		}
		return nil
	})
	if needsKey(err) {
		err = a.publicHealth(ctx, &h)
	}
	report("store", err)
	return h
}

// addServer adds the parts of a server, as it tells them itself.
func (h *health) addServer(ctx context.Context, server *remote.Store) error {
	theirs, err := server.Health(ctx)
	for _, c := range theirs.Components {
		h.add(component{Name: "server_" + c.Name, State: string(c.State), Reason: c.Reason})
	}
	return err
}

// publicHealth adds the parts of a server that asks for a key where there is none: how it is
// it tells everybody, so that a container's health check needs no secret.
func (a *app) publicHealth(ctx context.Context, h *health) error {
	s, err := a.open(ctx, reading)
	if err != nil {
		return err
	}
	if server, ok := s.Backend.(*remote.Store); ok {
		err = h.addServer(ctx, server)
	}
	return errors.Join(err, s.close())
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of the program",
		Args:  noArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			fmt.Fprintf(a.stdout, "mds %s, schema version %d, %s %s/%s\n",
				version(), duckdb.SchemaVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// version is the module version, or the commit that a checkout was built from.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

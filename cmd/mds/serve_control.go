package main

import (
	"context"
	"log/slog"

	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// controlConfig is what the settings say of what may be done through a server to its store: on
// PostgreSQL that takes the owner's DSN.
func (a *app) controlConfig(ctx context.Context, s *session, logger *slog.Logger) (server.ControlConfig, error) {
	cfg := server.ControlConfig{
		Operator: a.settings.Serve.OperatorTenant,
		Settings: func() []client.Setting { return shownSettings(a.settings) },
	}
	if a.settings.IsSet("serve.operator_tenant") {
		if _, err := s.Tenant(ctx, cfg.Operator); err != nil {
			logger.Warn("nobody looks after the store through this server: its operator's tenant is not there", "setting", "serve.operator_tenant", "tenant", cfg.Operator, "error", err)
		}
	}
	owner := a.settings.Store.AdminDSN
	if !postgres.IsDSN(a.dsn) {
		var err error
		if owner, err = a.storeDSN(); err != nil {
			return cfg, err
		}
	}
	cfg.Logins = func() (*store.Logins, error) { return store.OpenLogins(owner) }
	if owner == "" {
		cfg.Logins = nil
		return cfg, nil
	}
	cfg.Keys = func(ctx context.Context) (store.Keys, error) { return store.OpenKeys(ctx, owner, store.Config{}) }
	cfg.Keeper = func(ctx context.Context) (store.Keeper, error) { return store.OpenKeeper(ctx, s.Store, owner) }
	return cfg, nil
}

// shownSettings are settings as they may be told.
func shownSettings(s *config.Settings) []client.Setting {
	list := s.Shown()
	out := make([]client.Setting, len(list))
	for i, row := range list {
		out[i] = client.Setting(row)
	}
	return out
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrDSN is wrapped by the refusal of a DSN that cannot be read.
var ErrDSN = errors.New("it is not one of PostgreSQL")

// IsDSN reports a DSN of PostgreSQL.
func IsDSN(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// Database names the database of a DSN as HOST-PORT-DATABASE, whatever the login, in
// letters, digits, '.', '_' and '-': the same for all who use it by the same address.
func Database(dsn string) (string, error) {
	config, err := connConfig(dsn)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%d-%s", config.Host, config.Port, config.Database)
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, name), nil
}

// poolConfig and connConfig read a DSN, with what every connection needs.
func poolConfig(dsn string) (*pgxpool.Config, error) {
	if err := checkDSN(dsn); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, dsnError(dsn, err)
	}
	return config, everyConnection(&config.ConnConfig.Config)
}

func connConfig(dsn string) (*pgx.ConnConfig, error) {
	if err := checkDSN(dsn); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, dsnError(dsn, err)
	}
	return config, everyConnection(&config.Config)
}

func everyConnection(config *pgconn.Config) error {
	if text, ok := config.RuntimeParams[poolerParameter]; ok {
		if _, err := strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%w: %s=%s: write true or false", ErrDSN, poolerParameter, text)
		}
	}
	delete(config.RuntimeParams, poolerParameter)    // the server has no such setting
	config.RuntimeParams["client_encoding"] = "UTF8" // what is written, whatever the login has
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	return nil
}

// poolerParameter is a parameter of DSNs that says whether there is a PgBouncer in
// transaction mode, or its like, before the server. The store works over one whether it
// is said or not; what needs a session of its own is refused.
const poolerParameter = "pgbouncer"

// pooled tells whether a connection is lent for a transaction, as its DSN says, or else
// as the number of the server's process tells, which a pooler makes up.
func pooled(ctx context.Context, dsn string, conn *pgconn.PgConn) (bool, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return false, dsnError(dsn, err)
	}
	if said, err := strconv.ParseBool(config.RuntimeParams[poolerParameter]); err == nil {
		return said, nil
	}
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_backend_pid()").ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 {
		return false, err
	}
	return string(results[0].Rows[0][0]) != strconv.FormatUint(uint64(conn.PID()), 10), nil
}

// credentials are what stands between the scheme and the host.
func credentials(dsn string) string {
	_, rest, _ := strings.Cut(dsn, "://")
	authority, _, _ := strings.Cut(rest, "?")
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return ""
	}
	return authority[:at]
}

// saysPassword reports whether the DSN itself has the password.
func saysPassword(dsn string) bool {
	_, query, _ := strings.Cut(dsn, "?")
	return strings.Contains(credentials(dsn), ":") || strings.Contains("&"+query, "&password=")
}

// checkDSN refuses a password that the driver would read as something else.
func checkDSN(dsn string) error {
	if strings.ContainsAny(credentials(dsn), "@/#") {
		return fmt.Errorf("%w: write @ as %%40, / as %%2F, # as %%23 and %% as %%25 in its password", ErrDSN)
	}
	return nil
}

// dsnError is for a DSN that cannot be read. The driver's words may hold the password, or
// a part of it.
func dsnError(dsn string, err error) error {
	const form = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %2F for / and %25 for % in the password"
	reason := err.Error()
	if _, after, ok := strings.Cut(reason, "`: "); ok { // after the DSN
		reason = after
	}
	_, password, _ := strings.Cut(credentials(dsn), ":")
	for _, part := range strings.FieldsFunc(password, func(r rune) bool { return strings.ContainsRune("%:@/ ", r) }) {
		if strings.Contains(reason, part) {
			reason = ""
		}
	}
	if reason == "" || strings.Contains(reason, "\n") || strings.Contains(reason, "://") {
		return fmt.Errorf("%w: %s", ErrDSN, form)
	}
	return fmt.Errorf("%w: %s; %s", ErrDSN, reason, form)
}

package config

// Setting is one thing that can be set.
type Setting struct {
	// Key is its section and name in the file, such as serve.listen.
	Key string
	// Env is its environment variable.
	Env string
	// Flag is the flag of commands that have one for it, without dashes; "" where none has.
	Flag string
	// Default is what holds where it is not set, as the environment has it; "" where there
	// is none, and Example is then one that might be set.
	Default, Example string
	// Doc is its meaning, with its unit, and what else its default depends on.
	Doc string
	// Secret settings are not shown as they are.
	Secret bool

	// hidden ones are not shown at all.
	hidden bool
	// left leaves the default to whoever uses the setting.
	left bool
	form form
}

// FileEnv is the variable that names the file.
const FileEnv = "MDS_CONFIG"

// table has a line for each setting, whose form says what it may be and where it goes.
func table(s *Settings) []Setting {
	var rows []Setting
	for _, section := range [][]Setting{
		storeTable(&s.Store), dlqTable(&s.DLQ), logTable(&s.Log),
		coordinatorTable(&s.Coordinator), retryTable(&s.Retry), circuitTable(&s.Circuit),
		serveTable(&s.Serve), limitsTable(&s.Serve), ratesTable(&s.Rates), feedbackTable(&s.Feedback), sqlTable(&s.SQL), jobsTable(&s.Jobs),
	} {
		rows = append(rows, section...)
	}
	return rows
}

// What DSNs look like.
const (
	anyDSN   = "duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST" //nolint:gosec // no password
	ownerDSN = "postgres://OWNER:PASSWORD@HOST/DATABASE"                              //nolint:gosec // no password
)

func storeTable(s *Store) []Setting {
	return []Setting{
		{Key: "store.dsn", Env: "MDS_DSN", Flag: "dsn", Example: "duckdb:///var/lib/mds", Secret: true, left: true, form: dsn(&s.DSN, anyDSN, "duckdb://", "postgres://", "postgresql://", "http://", "https://"),
			Doc: "the store, " + anyDSN + "; where it is not set, a folder in the user's data directory"},
		{Key: "store.admin_dsn", Env: "MDS_ADMIN_DSN", Flag: "admin-dsn", Example: ownerDSN, Secret: true, left: true, form: dsn(&s.AdminDSN, ownerDSN, "postgres://", "postgresql://"),
			Doc: "that of the owner of a PostgreSQL database, who migrates it; a server needs it to look after keys, logins and policies, and to migrate, only"},
		{Key: "store.server", Env: "MDS_SERVER", Flag: "server", Example: "https://mds.example.com", Secret: true, left: true, form: dsn(&s.Server, "the URL of a server, such as http://127.0.0.1:8080 or https://mds.example.com", "http://", "https://"),
			Doc: "the URL of a server (mds serve) in the place of the DSN; of the two the one holds that is set nearer to the command"},
		{Key: "store.api_key", Env: "MDS_API_KEY", Example: "mds_…", Secret: true, hidden: true, left: true, form: text(&s.APIKey),
			Doc: "the API key for the server"},
		{Key: "store.tenant", Env: "MDS_TENANT_ID", Flag: "tenant", Default: "default", form: text(&s.Tenant),
			Doc: "the tenant, by name or id"},
		{Key: "store.memory_limit", Env: "MDS_MEMORY_LIMIT", Flag: "memory-limit", Default: "512MB", left: true, form: memory(&s.MemoryLimit),
			Doc: "the embedded database's memory, 64MB or more; 96MB is the default to load bars and options, and 80MB to serve"},
		{Key: "store.write_mode", Env: "MDS_WRITE_MODE", Default: "auto", left: true, form: choice(&s.WriteMode, "auto", "merge", "copy", "unnest"),
			Doc: "how batches are written: auto; with DuckDB merge; with PostgreSQL copy, merge or unnest. What is stored is the same"},
		{Key: "store.pool_max", Env: "MDS_POOL_MAX", Default: "10", left: true, form: count(&s.PoolMax, 2, 1<<16, "a number of connections"),
			Doc: "the most connections to a PostgreSQL server"},
		{Key: "store.statement_timeout", Env: "MDS_STATEMENT_TIMEOUT", Default: "30s", left: true, form: durationOrNone(&s.StatementTimeout, "write a duration such as 30s or 2m, or 0s for the server's own setting"),
			Doc: "how long a statement of a batch may take on a PostgreSQL server; 0s leaves it to the server"},
	}
}

func dlqTable(d *DLQ) []Setting {
	return []Setting{
		{Key: "dlq.dir", Env: "MDS_DLQ_DIR", Flag: "dlq-dir", Example: "/var/lib/mds/dead-letters", left: true, form: text(&d.Dir),
			Doc: "the folder for records that the store refuses for good; where it is not set, dead-letters in the store's folder, for a server one of its own in the user's data directory"},
		{Key: "dlq.max_bytes", Env: "MDS_DLQ_MAX_BYTES", Default: "1GiB", left: true, form: size(&d.MaxBytes, 1<<20, "1GiB, 1MiB or more"),
			Doc: "what all dead letters take at most"},
	}
}

func logTable(l *Log) []Setting {
	return []Setting{
		{Key: "log.level", Env: "MDS_LOG_LEVEL", Flag: "log-level", Default: "warn", form: choice(&l.Level, "debug", "info", "warn", "error"),
			Doc: "log what is at least debug, info, warn or error"},
		{Key: "log.format", Env: "MDS_LOG_FORMAT", Flag: "log-format", Default: "text", form: choice(&l.Format, "text", "json"),
			Doc: "log as text or json"},
	}
}

// mostWorkers is more than any store can use.
const mostWorkers = 1024

func coordinatorTable(c *Coordinator) []Setting {
	return []Setting{
		{Key: "coordinator.capacity", Env: "MDS_COORDINATOR_CAPACITY", Default: "262144", left: true, form: count(&c.Capacity, 1, 1<<40, "a whole number"),
			Doc: "records of a kind that are queued and being written at most"},
		{Key: "coordinator.capacity_bytes", Env: "MDS_COORDINATOR_CAPACITY_BYTES", Default: "64MiB", left: true, form: size(&c.CapacityBytes, 1<<20, "64MiB, 1MiB or more"),
			Doc: "what they take of memory at most; buffers take up to twice as much"},
		{Key: "coordinator.workers", Env: "MDS_COORDINATOR_WORKERS", Default: "4", left: true, form: count(&c.Workers, 1, mostWorkers, "a whole number"),
			Doc: "batches of a kind that are written at once; with DuckDB, which has one writer, 1"},
		{Key: "coordinator.batch_size", Env: "MDS_COORDINATOR_BATCH_SIZE", Default: "500", left: true, form: count(&c.BatchSize, 1, 1<<40, "a whole number"),
			Doc: "records that are written in one transaction at least, unless they grow old; of mds ingest 122880, with PostgreSQL 30000"},
		{Key: "coordinator.batch_max", Env: "MDS_COORDINATOR_BATCH_MAX", Default: "50000", left: true, form: count(&c.BatchMax, 1, 1<<40, "a whole number"),
			Doc: "records that a batch grows to while the store is busy; of mds ingest those of batch_size"},
		{Key: "coordinator.flush_interval", Env: "MDS_COORDINATOR_FLUSH_INTERVAL", Default: "250ms", left: true, form: duration(&c.FlushInterval),
			Doc: "write a batch when its oldest record is that old, however small; of mds ingest 1s"},
	}
}

func retryTable(r *Retry) []Setting {
	return []Setting{
		{Key: "retry.max_attempts", Env: "MDS_RETRY_MAX_ATTEMPTS", Default: "5", left: true, form: count(&r.MaxAttempts, 1, 1<<30, "a whole number"),
			Doc: "how often a batch is written at most that may succeed later"},
		{Key: "retry.initial_backoff", Env: "MDS_RETRY_INITIAL_BACKOFF", Default: "50ms", left: true, form: duration(&r.InitialBackoff),
			Doc: "the pause before the second attempt"},
		{Key: "retry.max_backoff", Env: "MDS_RETRY_MAX_BACKOFF", Default: "2s", left: true, form: duration(&r.MaxBackoff),
			Doc: "the longest pause"},
		{Key: "retry.backoff_multiplier", Env: "MDS_RETRY_BACKOFF_MULTIPLIER", Default: "2", left: true, form: number(&r.BackoffMultiplier, 1, "write a number, 1 or more"),
			Doc: "by how much each pause is longer than the one before"},
		{Key: "retry.jitter", Env: "MDS_RETRY_JITTER", Default: "true", left: true, form: not(&r.NoJitter),
			Doc: "whether pauses are drawn by lot, from 0 to what they are"},
	}
}

func circuitTable(c *Circuit) []Setting {
	return []Setting{
		{Key: "circuit.failure_threshold", Env: "MDS_CB_FAILURE_THRESHOLD", Default: "5", left: true, form: count(&c.FailureThreshold, 1, 1<<30, "a whole number"),
			Doc: "after how many failures in a row nothing is written for a while"},
		{Key: "circuit.half_open_after", Env: "MDS_CB_HALF_OPEN_AFTER", Default: "1m", left: true, form: duration(&c.HalfOpenAfter),
			Doc: "after how long one write tries whether the store is well again; of mds ingest 2s"},
	}
}

func serveTable(s *Serve) []Setting {
	return []Setting{
		{Key: "serve.listen", Env: "MDS_SERVE_LISTEN", Flag: "listen", Default: "127.0.0.1:8080", form: address(&s.Listen),
			Doc: "the address to listen on, host:port; port 0 takes one that is free"},
		{Key: "serve.tls_cert", Env: "MDS_SERVE_TLS_CERT", Flag: "tls-cert", Example: "/etc/mds/cert.pem", left: true, form: text(&s.TLSCert),
			Doc: "serve with TLS: the file of the certificate and those that signed it (PEM); read anew when it changes"},
		{Key: "serve.tls_key", Env: "MDS_SERVE_TLS_KEY", Flag: "tls-key", Example: "/etc/mds/key.pem", left: true, form: text(&s.TLSKey),
			Doc: "the file of its key (PEM)"},
		{Key: "serve.admin_listen", Env: "MDS_SERVE_ADMIN_LISTEN", Flag: "admin-listen", Example: "127.0.0.1:6060", left: true, form: loopback(&s.AdminListen),
			Doc: "serve profiles, metrics and health, without keys, on an address of loopback, too"},
		{Key: "serve.audit_log", Env: "MDS_SERVE_AUDIT_LOG", Flag: "audit-log", Example: "/var/log/mds/audit.ndjson", left: true, form: text(&s.AuditLog),
			Doc: "the file that control actions are appended to, before and after they are done; where it is not set they are in the log, at level warn"},
		{Key: "serve.operator_tenant", Env: "MDS_SERVE_OPERATOR_TENANT", Example: "ops", left: true, form: text(&s.OperatorTenant),
			Doc: "the tenant whose API keys with the scope admin look after the store of all tenants, through the server; none do unless it is set"},
		{Key: "serve.cors_origins", Env: "MDS_SERVE_CORS_ORIGINS", Example: "https://notebook.example.com", left: true, form: origins(&s.CORSOrigins),
			Doc: "the origins whose pages in a browser may use the server, as the browser names them; where there are API keys, * is any. None may unless it is set"},
		{Key: "serve.drain_timeout", Env: "MDS_SERVE_DRAIN_TIMEOUT", Flag: "drain-timeout", Default: "30s", form: duration(&s.DrainTimeout),
			Doc: "how long requests and what is queued have to be finished when it is interrupted"},
		{Key: "serve.header_timeout", Env: "MDS_SERVE_HEADER_TIMEOUT", Default: "10s", form: duration(&s.HeaderTimeout),
			Doc: "how long a connection may take for the head of a request"},
		{Key: "serve.idle_timeout", Env: "MDS_SERVE_IDLE_TIMEOUT", Default: "1m", form: duration(&s.IdleTimeout),
			Doc: "how long a body may bring nothing"},
		{Key: "serve.commit_timeout", Env: "MDS_SERVE_COMMIT_TIMEOUT", Default: "1m", form: duration(&s.CommitTimeout),
			Doc: "how long a request waits for its records to be on the store's disk"},
		{Key: "serve.query_timeout", Env: "MDS_SERVE_QUERY_TIMEOUT", Default: "10m", form: duration(&s.QueryTimeout),
			Doc: "how long a query may take, its answer included"},
		{Key: "serve.write_timeout", Env: "MDS_SERVE_WRITE_TIMEOUT", Default: "30s", form: duration(&s.WriteTimeout),
			Doc: "how long a client may keep an answer from being written, by not reading"},
	}
}

func limitsTable(s *Serve) []Setting {
	return []Setting{
		{Key: "serve.max_ingests", Env: "MDS_SERVE_MAX_INGESTS", Default: "512", form: count(&s.MaxIngests, 1, 1<<20, "a whole number"),
			Doc: "bodies of records that are under way at once; more are refused"},
		{Key: "serve.max_queries", Env: "MDS_SERVE_MAX_QUERIES", Default: "128", form: count(&s.MaxQueries, 1, 1<<20, "a whole number"),
			Doc: "queries that are under way at once; more are refused"},
		{Key: "serve.max_streams", Env: "MDS_SERVE_MAX_STREAMS", Default: "1024", form: count(&s.MaxStreams, 1, 1<<20, "a whole number"),
			Doc: "streams that are open at once, of feedback and of live records each; more are refused"},
		{Key: "serve.max_header_bytes", Env: "MDS_SERVE_MAX_HEADER_BYTES", Default: "64KiB", form: size(&s.MaxHeaderBytes, 4<<10, "64KiB, 4KiB or more"),
			Doc: "how large the head of a request may be"},
		{Key: "serve.max_body_bytes", Env: "MDS_SERVE_MAX_BODY_BYTES", Example: "1GiB", left: true, form: size(&s.MaxBodyBytes, 1, "1GiB"),
			Doc: "how large a body may be, as it is sent; where it is not set any size, as it is read in bounded memory"},
		{Key: "serve.body_memory", Env: "MDS_SERVE_BODY_MEMORY", Default: "512MiB", form: size(&s.BodyMemory, 64<<20, "512MiB, 64MiB or more"),
			Doc: "what reading the bodies under way may take of memory, together; more wait, and are refused after a second"},
	}
}

func ratesTable(r *Rates) []Setting {
	return []Setting{
		{Key: "rates.records", Env: "MDS_RATES_RECORDS", Default: "0", form: number(&r.Records, 0, "write a number of records a second, or 0 for no limit"),
			Doc: "the records a second that are taken in of a tenant, of each kind; its requests wait. 0 is no limit"},
		{Key: "rates.requests", Env: "MDS_RATES_REQUESTS", Default: "0", form: number(&r.Requests, 0, "write a number of requests a second, or 0 for no limit"),
			Doc: "the requests a second that are answered to a tenant; more are refused. 0 is no limit"},
		{Key: "rates.tenant_records", Env: "MDS_RATES_TENANT_RECORDS", Example: "acme=50000", left: true, form: byTenant(&r.RecordsOf),
			Doc: "the records a second of single tenants, by name"},
		{Key: "rates.tenant_requests", Env: "MDS_RATES_TENANT_REQUESTS", Example: "acme=100", left: true, form: byTenant(&r.RequestsOf),
			Doc: "the requests a second of single tenants, by name"},
	}
}

func feedbackTable(f *Feedback) []Setting {
	return []Setting{
		{Key: "feedback.webhook_url", Env: "MDS_FB_HTTP_ENDPOINT", Example: "https://producer.example.com/feedback", Secret: true, hidden: true, left: true, form: webURL(&f.WebhookURL),
			Doc: "where mds serve posts the feedback of each kind; where it is not set, nowhere"},
		{Key: "feedback.webhook_secret", Env: "MDS_FB_HTTP_SECRET", Example: "topsecret", Secret: true, hidden: true, left: true, form: text(&f.WebhookSecret),
			Doc: "signs the posts; where it is not set they are not signed"},
		{Key: "feedback.webhook_timeout", Env: "MDS_FB_HTTP_TIMEOUT", Default: "2.5s", form: duration(&f.WebhookTimeout),
			Doc: "how long a post may take, its answer included"},
		{Key: "feedback.webhook_max_retries", Env: "MDS_FB_HTTP_MAX_RETRIES", Default: "3", form: count(&f.WebhookMaxRetries, 0, 1<<10, "a whole number"),
			Doc: "how often an event is posted again that was not taken"},
		{Key: "feedback.webhook_backoff", Env: "MDS_FB_HTTP_BACKOFF", Default: "500ms", form: duration(&f.WebhookBackoff),
			Doc: "the longest pause before the first of them; it doubles up to 10s, and pauses are drawn by lot"},
	}
}

func sqlTable(q *SQL) []Setting {
	return []Setting{
		{Key: "sql.timeout", Env: "MDS_SQL_TIMEOUT", Default: "30s", form: duration(&q.Timeout),
			Doc: "how long a statement of /v1/sql may take, its answer included"},
		{Key: "sql.max_rows", Env: "MDS_SQL_MAX_ROWS", Default: "1000000", form: count(&q.MaxRows, 1, 1<<31-2, "a whole number"),
			Doc: "rows that the answer to a statement of /v1/sql has at most"},
		{Key: "sql.logins", Env: "MDS_SQL_LOGINS", Example: "acme=postgres://acme_bi@HOST/DATABASE", Secret: true, hidden: true, left: true, form: logins(&q.Logins),
			Doc: "on a PostgreSQL server, the DSN of the login as which SQL of a tenant is run, by the tenant's name; mds tenant grant-login makes one. A password may stand in it, in ~/.pgpass, or in the file of that form that passfile=FILE names in it"},
	}
}

func jobsTable(j *Jobs) []Setting {
	return []Setting{
		{Key: "jobs.concurrency", Env: "MDS_JOBS_CONCURRENCY", Default: "2", form: count(&j.Concurrency, 0, 64, "a whole number"),
			Doc: "how many jobs a server runs at once; 0 leaves them to other servers of the store"},
		{Key: "jobs.lease", Env: "MDS_JOBS_LEASE", Default: "30s", form: duration(&j.Lease),
			Doc: "after how long without a word of a server its jobs are taken over by another one"},
		{Key: "jobs.policies_every", Env: "MDS_JOBS_POLICIES_EVERY", Example: "1h", left: true, form: duration(&j.PoliciesEvery),
			Doc: "how often policies are carried out by themselves, by one server of those that say so; where it is not set, when a job asks for it. On a PostgreSQL server it needs the owner's DSN"},
		{Key: "jobs.dir", Env: "MDS_JOBS_DIR", Example: "/srv/market-data", left: true, form: text(&j.Dir),
			Doc: "the folder whose files backfills may read; where it is not set, they read none"},
		{Key: "jobs.hosts", Env: "MDS_JOBS_HOSTS", Example: "api.example.com", left: true, form: hosts(&j.Hosts),
			Doc: "the hosts that backfills may ask for records, over https; where it is not set, none"},
		{Key: "jobs.headers_dir", Env: "MDS_JOBS_HEADERS_DIR", Example: "/etc/mds/headers", left: true, form: text(&j.HeadersDir),
			Doc: "the folder with a file for each of these hosts that is asked with headers, named as the host (with a port as HOST_PORT), with a line for each, such as Authorization: Bearer …"},
		{Key: "jobs.exports", Env: "MDS_JOBS_EXPORTS", Example: "/srv/exports", left: true, form: text(&j.Exports),
			Doc: "the folder that export jobs write files below; where it is not set, they write none"},
		{Key: "jobs.rejects", Env: "MDS_JOBS_REJECTS", Example: "/var/lib/mds/job-rejects", left: true, form: text(&j.Rejects),
			Doc: "the folder for what of a backfill is no record; where it is not set, job-rejects beside the dead letters"},
	}
}

// List lists what can be set, section by section.
func List() []Setting { return table(&Settings{}) }

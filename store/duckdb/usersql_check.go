package duckdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// maxSpill is what an instance may write out to the disk of what does not fit in its memory.
const maxSpill = "4GB"

// lockedDown are the options of an instance that keeps to its file.
func lockedDown() url.Values {
	return url.Values{
		"enable_external_access":       {"false"},
		"autoinstall_known_extensions": {"false"},
		"autoload_known_extensions":    {"false"},
		"allow_community_extensions":   {"false"},
		"max_temp_directory_size":      {maxSpill},
	}
}

// lock has now() and times without a zone be in UTC, whatever the machine's, and locks the
// configuration where nothing has to change it: an instance that writes is lent memory for
// texts (see [file.lend]), and there it is the type of the statement that keeps SET away.
func (f *file) lock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SET GLOBAL TimeZone = 'UTC'")
	if err == nil && f.readOnly {
		_, err = conn.ExecContext(ctx, "SET lock_configuration = true")
	}
	return err
}

var errOnlyReads = &mds.SQLError{Detail: "one statement that reads is taken: a SELECT, or EXPLAIN of one"}

// explaining is what stands before the SELECT that is explained.
var explaining = regexp.MustCompile(`(?i)^\s*explain\s+(analyze\s+)?`)

// readsOnly refuses what is not one SELECT, or EXPLAIN of one, of tables and functions that
// are allowed.
func (u *userSQL) readsOnly(ctx context.Context) (explains bool, err error) {
	prefix := explaining.FindString(u.query.Text)
	text := u.query.Text[len(prefix):]
	if strings.ContainsRune(text, 0) {
		return false, &mds.SQLError{Detail: "it has a NUL character"}
	}
	// Text in, text out: nothing of it is looked up or run.
	var tree string
	if err := u.QueryRowContext(ctx, "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR", text).Scan(&tree); err != nil {
		return false, err
	}
	var parsed struct {
		Error      bool   `json:"error"`
		Type       string `json:"error_type"`
		Message    string `json:"error_message"`
		Position   string `json:"position"`
		Statements []any  `json:"statements"`
	}
	if err := json.Unmarshal([]byte(tree), &parsed); err != nil {
		return false, err
	}
	switch {
	case parsed.Error && parsed.Type == "parser":
		at := 0
		if n, err := strconv.Atoi(parsed.Position); err == nil {
			at = characters(u.query.Text, len(prefix)+n)
		}
		return false, &mds.SQLError{Detail: parsed.Message, Position: at}
	case parsed.Error, len(parsed.Statements) != 1:
		return false, errOnlyReads
	}
	return prefix != "", (&inspection{text: u.query.Text, before: len(prefix)}).visit(parsed.Statements[0])
}

// characters is the number of the character, from 1, that begins at a byte.
func characters(text string, at int) int {
	return utf8.RuneCountInString(text[:min(max(at, 0), len(text))]) + 1
}

// inspection looks at a parsed statement.
type inspection struct {
	text   string
	before int // bytes of the text before what was parsed
}

// visit looks at a node and all beneath it.
func (in *inspection) visit(node any) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := in.visit(child); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := in.allowed(n); err != nil {
			return err
		}
		for key, child := range n {
			if function, ok := child.(map[string]any); ok && key == "function" && n["type"] == "TABLE_FUNCTION" {
				child = withoutName(function) // it was looked at
			}
			if err := in.visit(child); err != nil {
				return err
			}
		}
	}
	return nil
}

func withoutName(function map[string]any) map[string]any {
	rest := make(map[string]any, len(function))
	for key, value := range function {
		if key != "function_name" {
			rest[key] = value
		}
	}
	return rest
}

// allowed refuses a node.
func (in *inspection) allowed(n map[string]any) error {
	if function, ok := n["function"].(map[string]any); ok && n["type"] == "TABLE_FUNCTION" {
		name, _ := function["function_name"].(string)
		if !slices.Contains(tableFunctions, strings.ToLower(name)) {
			return in.refused(n, "the table function "+name)
		}
		return nil
	}
	if name, ok := n["function_name"].(string); ok && slices.Contains(notFunctions, strings.ToLower(name)) {
		return in.refused(n, "the function "+name)
	}
	if name, ok := n["table_name"].(string); ok && n["type"] == "BASE_TABLE" {
		schema, _ := n["schema_name"].(string)
		for _, prefix := range notTables {
			if strings.HasPrefix(strings.ToLower(name), prefix) || strings.HasPrefix(strings.ToLower(schema), prefix) {
				return in.refused(n, "the table "+name)
			}
		}
	}
	return nil
}

func (in *inspection) refused(n map[string]any, what string) error {
	at := 0
	if location, ok := n["query_location"].(float64); ok && location < float64(len(in.text)) {
		at = characters(in.text, in.before+int(location))
	}
	return &mds.SQLError{Detail: what + " is not for queries here", Position: at}
}

// tableFunctions are those that make rows of nothing but their arguments, a few at a time.
// The others read files, tell of the instance and its settings, or act.
var tableFunctions = []string{"range", "generate_series", "unnest", "json_each", "json_tree"}

// notTables begin the names of tables and schemas that tell of the instance and where it lies.
var notTables = []string{"duckdb_", "pragma_", "pg_"}

// notFunctions act, tell of the instance, run text as SQL, or make something of any size of a
// number, at once, which nothing bounds and nothing interrupts.
var notFunctions = []string{
	"nextval", "currval", "setseed", "write_log", "sleep_ms", "pg_sleep",
	"current_setting", "getvariable", "getenv", "current_query", "inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port",
	"query", "query_table", "json_serialize_plan", "json_execute_serialized_sql", "json_deserialize_sql",
	"range", "generate_series", "generate_subscripts", "repeat", "lpad", "rpad", "bar", "printf", "format", "to_base",
	"bitstring", "list_resize", "array_resize", "equi_width_bins", "fill",
}

// place is where the database says that something is wrong.
var place = regexp.MustCompile(`(?s)\n\nLINE (\d+): (.*?)\n( *)\^`)

// refusal is what the database says of a statement, without where it lies.
func refusal(message, path string) *mds.SQLError {
	e := &mds.SQLError{Detail: message}
	if at := place.FindStringIndex(message); at != nil {
		e.Detail = message[:at[0]]
	}
	e.Detail = strings.Join(strings.Fields(strings.ReplaceAll(e.Detail, path, "the file")), " ")
	return e
}

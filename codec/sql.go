package codec

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
)

// SQLWriter writes the answer to a statement:
//
//	json    {"columns":[{"name":…,"type":…}],"rows":[[…]],"truncated":false}
//	ndjson  an object a row
//	csv     a header of names; NULL is blank
//
// Instants are RFC 3339 in UTC, numbers are exact, bytes are base64, and what JSON has no
// number for (NaN, Infinity) is a text. It is an [mds.SQLRows], and not safe for concurrent
// use.
type SQLWriter struct {
	w      *bufio.Writer
	csv    *csv.Writer
	format Format
	names  [][]byte // quoted
	line   []byte
	cells  []string
	rows   int
}

// NewSQLWriter returns a writer; Close it to write what is buffered.
func NewSQLWriter(w io.Writer, format Format) (*SQLWriter, error) {
	out := &SQLWriter{w: bufio.NewWriterSize(w, 64<<10), format: format}
	switch format {
	case FormatCSV:
		out.csv = csv.NewWriter(out.w)
	case FormatNDJSON, FormatJSON:
	default:
		return nil, fmt.Errorf("format %q: use csv, ndjson or json", format)
	}
	return out, nil
}

// Columns begins the answer.
func (o *SQLWriter) Columns(columns []mds.SQLColumn) error {
	o.cells = make([]string, len(columns))
	seen := make(map[string]bool, len(columns))
	for i, c := range columns {
		if seen[c.Name] && o.format == FormatNDJSON {
			return &mds.SQLError{Detail: fmt.Sprintf("two columns are called %q, of which an object has one: name them apart with AS, or ask for json or csv", c.Name)}
		}
		seen[c.Name] = true
		name, err := json.Marshal(c.Name)
		if err != nil {
			return err
		}
		o.names = append(o.names, name)
		o.cells[i] = c.Name
	}
	switch o.format {
	case FormatCSV:
		return o.csv.Write(o.cells)
	case FormatJSON:
		if columns == nil {
			columns = []mds.SQLColumn{}
		}
		text, err := json.Marshal(columns)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.w, `{"columns":%s,"rows":[`, text)
		return err
	}
	return nil
}

// Row writes a row.
func (o *SQLWriter) Row(values []any) error {
	o.rows++
	if o.format == FormatCSV {
		for i, v := range values {
			o.cells[i] = SQLText(v)
		}
		return o.csv.Write(o.cells)
	}
	o.line = o.line[:0]
	if o.format == FormatJSON {
		if o.rows > 1 {
			o.line = append(o.line, ',')
		}
		o.line = append(o.line, "\n["...)
	} else {
		o.line = append(o.line, '{')
	}
	for i, v := range values {
		if i > 0 {
			o.line = append(o.line, ',')
		}
		if o.format == FormatNDJSON {
			o.line = append(append(o.line, o.names[i]...), ':')
		}
		var err error
		if o.line, err = appendSQLValue(o.line, v); err != nil {
			return err
		}
	}
	if o.format == FormatJSON {
		o.line = append(o.line, ']')
	} else {
		o.line = append(o.line, "}\n"...)
	}
	_, err := o.w.Write(o.line)
	return err
}

// Close ends the answer, of which rows may have been left out, and writes what is buffered.
// It does not close the writer below.
func (o *SQLWriter) Close(truncated bool) error {
	switch o.format {
	case FormatCSV:
		if o.csv.Flush(); o.csv.Error() != nil {
			return o.csv.Error()
		}
	case FormatJSON:
		end := ""
		if o.rows > 0 {
			end = "\n"
		}
		if _, err := fmt.Fprintf(o.w, "%s],\"truncated\":%v}\n", end, truncated); err != nil {
			return err
		}
	}
	return o.w.Flush()
}

// SQLText is a value of an answer as a text; NULL is empty.
func SQLText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return string(appendSQLFloat(nil, v))
	case json.Number:
		return v.String()
	case json.RawMessage:
		return string(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case mds.Date:
		return v.String()
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	}
	return fmt.Sprint(v)
}

func appendSQLFloat(b []byte, v float64) []byte {
	switch abs := math.Abs(v); {
	case math.IsNaN(v):
		return append(b, "NaN"...)
	case math.IsInf(v, 1):
		return append(b, "Infinity"...)
	case math.IsInf(v, -1):
		return append(b, "-Infinity"...)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		return strconv.AppendFloat(b, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

func appendSQLValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool, int64, uint64, json.Number, json.RawMessage:
		return append(b, SQLText(v)...), nil
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return appendSQLFloat(b, v), nil
		}
	}
	text, err := json.Marshal(SQLText(v))
	return append(b, text...), err
}

package duckdb

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// reading is how a value of an answer is read: an expression in SQL, of the column, and what
// is made of what the driver has then. NULL is nil to all.
type reading struct {
	expression string
	convert    func(driver.Value) (any, error)
}

func asItIs(v driver.Value) (any, error) { return v, nil }

// readings are the expressions of columns, and the functions that read them.
func readings(columns []mds.SQLColumn) (fields string, convert []func(driver.Value) (any, error)) {
	list := make([]string, len(columns))
	convert = make([]func(driver.Value) (any, error), len(columns))
	for i, c := range columns {
		r := readingOf(c.Type)
		list[i] = fmt.Sprintf(r.expression, fmt.Sprintf("c%d", i))
		convert[i] = func(v driver.Value) (any, error) {
			if v == nil {
				return nil, nil
			}
			return r.convert(v)
		}
	}
	return strings.Join(list, ", "), convert
}

// readingOf is how values of a type are read; those that have no form of their own as the text
// that the database makes of them.
func readingOf(name string) reading {
	base, _, _ := strings.Cut(name, "(")
	switch {
	case strings.HasSuffix(name, "]"), base == "STRUCT", base == "MAP":
		return reading{"to_json(%s)::VARCHAR", asJSON}
	case base == "DECIMAL":
		return reading{"%s::VARCHAR", asNumber}
	}
	switch name {
	case "BOOLEAN", "BIGINT", "UBIGINT", "VARCHAR", "BLOB", "DOUBLE":
		return reading{"%s", asItIs}
	case "TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER":
		return reading{"%s::BIGINT", asItIs}
	case "FLOAT": // of a DOUBLE that it becomes more digits would be written
		return reading{"%s::VARCHAR", asFloat}
	case "HUGEINT", "UHUGEINT", "BIGNUM":
		return reading{"%s::VARCHAR", asNumber}
	case "DATE":
		return reading{"%s::VARCHAR", asDate}
	case "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE":
		return reading{"%s", asTime}
	case "JSON":
		return reading{"%s::VARCHAR", asJSON}
	}
	return reading{"%s::VARCHAR", asItIs}
}

func asNumber(v driver.Value) (any, error) {
	text, err := read[string](v)
	return json.Number(text), err
}

func asFloat(v driver.Value) (any, error) {
	text, err := read[string](v)
	if err != nil {
		return nil, err
	}
	return strconv.ParseFloat(text, 64)
}

// asDate leaves those that no calendar has, such as infinity, as texts.
func asDate(v driver.Value) (any, error) {
	text, err := read[string](v)
	if err != nil {
		return nil, err
	}
	if date, err := mds.ParseDate(text); err == nil {
		return date, nil
	}
	return text, nil
}

// asTime leaves infinity, which the driver takes for a year far away, as a text.
func asTime(v driver.Value) (any, error) {
	at, err := read[time.Time](v)
	switch {
	case err != nil:
		return nil, err
	case at.Year() > 9999:
		return "infinity", nil
	case at.Year() < -9999:
		return "-infinity", nil
	}
	return at.UTC(), nil
}

func asJSON(v driver.Value) (any, error) {
	text, err := read[string](v)
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(text)) { // it may have NaN
		return text, nil
	}
	return json.RawMessage(text), nil
}

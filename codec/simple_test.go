package codec

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
)

// decodeAll reads text as NDJSON, with every line left to the tokenizer or not. It
// returns what came of each row, and what was said of the file.
func decodeAll(text string, careful bool) (rows []any, ignored []string, warnings map[string]int64) {
	d, err := NewNDJSON[mds.Bar](strings.NewReader(text), Options{Fixed: map[string]string{"timeframe": "1m"}})
	if err != nil {
		return []any{err.Error()}, nil, nil
	}
	d.careful = careful
	for {
		var bar mds.Bar
		err := d.Next(&bar)
		var row *RowError
		switch {
		case errors.Is(err, io.EOF):
			return rows, d.Ignored(), d.Warnings()
		case err == nil:
			rows = append(rows, bar)
		case errors.As(err, &row):
			rows = append(rows, *row)
		default:
			return append(rows, err.Error()), d.Ignored(), d.Warnings()
		}
	}
}

// names are members of so many names.
func names(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	return strings.Join(list, ",")
}

// FuzzSimple compares lines that are cut here with the tokenizer's reading of them.
func FuzzSimple(f *testing.F) {
	good := `{"symbol":"A","ts":"2024-01-02T14:30:00Z","open":1.5,"close":-2,"volume":1e3,"x":null}`
	for _, text := range []string{
		good, good + "\n" + good,
		strings.ReplaceAll(good, ":", " : "),
		`{"symbol":"A","ts":1704205800,"close":0}`,
		`{"symbol":"A","symbol":"B","ts":"2024-01-02 14:30:00Z","close":1}`,
		`{"symbol":"A","other":1,"other":2,"ts":"2024-01-02T14:30:00Z","close":1}`,
		`{"symbol":"\u0041","ts":"2024-01-02T14:30:00Z","close":1}`,
		`{"symbol":"é","ts":"2024-01-02T14:30:00Z","close":1}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":01}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1.}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":.5}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1e}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":+1}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":-}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":nul}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":null}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1,}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1}}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1} x`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":1`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":true}`,
		`{"symbol":"A","ts":"2024-01-02T14:30:00Z","close":[1]}`,
		`{"c":1,"close":2,"symbol":"A","ts":"2024-01-02T14:30:00Z"}`,
		`{"o":"","open":0,"":null}`,
		`{"b":1,"a":2,"b":3,"c":4}`,
		good + "\n" + `{` + names(63) + `}` + "\n" + `{"z":1,` + names(130) + `}`,
		`{"y":1,` + names(64) + `,"y":2}`,
		`{}`, `{ }`, `{"":1}`, `{"a"}`, `{"a":}`, `{,}`, "{\"a\":\"\x01\"}", "{\"a\":\"\x7f\"}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, ignored, warnings := decodeAll(text, false)
		wantRows, wantIgnored, wantWarnings := decodeAll(text, true)
		if !reflect.DeepEqual(rows, wantRows) || !reflect.DeepEqual(ignored, wantIgnored) || !reflect.DeepEqual(warnings, wantWarnings) {
			t.Errorf("%q\n%v %v %v\nwant %v %v %v", text, rows, ignored, warnings, wantRows, wantIgnored, wantWarnings)
		}
	})
}

// FuzzISO compares the usual form of a time with the reading of every form.
func FuzzISO(f *testing.F) {
	for _, text := range []string{
		"2024-02-29", "2023-02-29", "2024-13-01", "2024-04-31", "0000-01-01", "1900-02-29", "2000-02-29",
		"2024-01-02T03:04:05Z", "2024-01-02 03:04:05", "2024-01-02T03:04:05.123456789Z", "2024-01-02T03:04:05.1234567891Z",
		"2024-01-02T03:04:05.Z", "2024-01-02T03:04:60Z", "2024-01-02T24:00:00Z", "2024-01-02T03:04:05+05:30", "2024-01-02T03:04:05-15:59",
		"2024-01-02T03:04:05+16:00", "2024-01-02T03:04:05+05:60", "2024-01-02T03:04:05+0530", "2024-01-02t03:04:05z", "2024-01-02T3:04:05Z",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseISO(text)
		if !ok {
			return
		}
		if want, err := parseLoose(text); err != nil || got != want {
			t.Errorf("%q is %+v, want %+v, %v", text, got, want, err)
		}
	})
}

// FuzzShort compares short numbers with the reading of every number.
func FuzzShort(f *testing.F) {
	for _, text := range []string{"0", "-0", "1.5", "-1.5", ".5", "5.", ".", "-", "1e3", "123456789012345", "1234567890123456", "12345678.9012345", "0.00000000000001", "9007199254740993", "1,5", "22.08", "0.1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := short([]byte(text))
		if !ok {
			return
		}
		if want, err := strconv.ParseFloat(text, 64); err != nil || got != want {
			t.Errorf("%q is %v, want %v, %v", text, got, want, err)
		}
	})
}

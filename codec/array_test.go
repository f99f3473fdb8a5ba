package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// closes reads a JSON array, however it comes in pieces, and returns the closes of its bars,
// the rows that are none, and how it ended.
func closes(t *testing.T, body string) (got []float64, rows []string, ended error) {
	t.Helper()
	for i, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body))} {
		var list []float64
		var bad []string
		d, err := codec.NewDecoder[mds.Bar](r, codec.FormatJSON, codec.Options{})
		for err == nil {
			var b mds.Bar
			var row *codec.RowError
			if err = d.Next(&b); err == nil {
				list = append(list, b.Close)
			} else if errors.As(err, &row) {
				bad, err = append(bad, row.Error()), nil
			}
		}
		if i > 0 && (!slices.Equal(list, got) || !slices.Equal(bad, rows) || fmt.Sprint(err) != fmt.Sprint(ended)) {
			t.Errorf("byte by byte it is %v, %q, %v; at once %v, %q, %v", list, bad, err, got, rows, ended)
		}
		got, rows, ended = list, bad, err
	}
	return got, rows, ended
}

func TestJSONArray(t *testing.T) {
	one := func(price string) string {
		return `{"vendor":"v","symbol":"S","timeframe":"1m","ts":"2026-01-02T03:04:00Z","close":` + price + `}`
	}
	for name, tt := range map[string]struct {
		body  string
		want  []float64
		rows  []string
		ended string // "" is the end
	}{
		"one line":         {"[" + one("1") + "," + one("2") + "]", []float64{1, 2}, nil, ""},
		"over lines":       {"\ufeff [\n " + strings.ReplaceAll(one("1"), ",", ",\n\t") + " ,\r\n" + one("2") + "\n]\n", []float64{1, 2}, nil, ""},
		"nothing in it":    {" [ ] ", nil, nil, ""},
		"brackets in text": {"[" + strings.Replace(one("1"), `"S"`, `"[],{\"\\"`, 1) + "," + one("2") + "]", []float64{1, 2}, nil, ""},
		"bad ones": {"[" + one("1") + `, 7, {"close":}, [1,{"a":2}], ` + one(`"x"`) + "," + one("3") + "]", []float64{1, 3}, []string{
			"line 2: the line is not a JSON object", "line 3: the line is not JSON: invalid character '}' at start of value within \"/close\" after offset 10",
			"line 4: the line is not a JSON object", `line 5: close: "x" is not a number`,
		}, ""},
		"a line end in a text": {"[{\"a\":\"x\ny\"}," + one("2") + "]", []float64{2}, []string{
			"line 1: the line is not JSON: invalid character '\\r' in string (expecting non-control character) within \"/a\" after offset 7",
		}, ""},
		"not closed":       {"[" + one("1") + "," + one("2"), []float64{1}, nil, "the JSON array ends too early, in element 2: there is no ]"},
		"ends after comma": {"[" + one("1") + ",", []float64{1}, nil, "the JSON array ends too early, in element 2: there is no ]"},
		"a comma too many": {"[" + one("1") + ",]", []float64{1}, nil, "the JSON array has nothing where element 2 should be"},
		"more after it":    {"[" + one("1") + "] " + one("2"), []float64{1}, nil, "the JSON array is followed by '{': write one array"},
		"more after none":  {"[] x", nil, nil, "the JSON array is followed by 'x': write one array"},
		"an object":        {one("1"), nil, nil, "it is not a JSON array: it begins with '{', not with ["},
		"nothing":          {"", nil, nil, "it is empty: it should be a JSON array of objects"},
		"only a bracket":   {"[", nil, nil, "the JSON array ends too early, in element 1: there is no ]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, rows, err := closes(t, tt.body)
			ended := err.Error()
			if errors.Is(err, io.EOF) {
				ended = ""
			}
			if !slices.Equal(got, tt.want) || !slices.Equal(rows, tt.rows) || ended != tt.ended {
				t.Errorf("%v, rows %q, %q\nwant %v, rows %q, %q", got, rows, ended, tt.want, tt.rows, tt.ended)
			}
		})
	}
}

// FuzzJSONArray has each element of what is a JSON array become a row, good or bad, and
// anything else end.
func FuzzJSONArray(f *testing.F) {
	for _, seed := range []string{"[]", "[1,2]", `[{"close":1},{"close":"\u005d"}]`, "[[[]],{}]", "[,]", `["a\"]"`, "[{]", "\ufeff[ 1 ]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := codec.NewDecoder[mds.Bar](bytes.NewReader(body), codec.FormatJSON, codec.Options{})
		n := 0
		for err == nil {
			var b mds.Bar
			var row *codec.RowError
			if err = d.Next(&b); err == nil || errors.As(err, &row) {
				n++
				if row != nil && row.Line != n {
					t.Fatalf("row %d is called %d", n, row.Line)
				}
				err = nil
			}
		}
		var elements []json.RawMessage
		valid := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &elements) == nil && elements != nil
		if valid && (!errors.Is(err, io.EOF) || n != len(elements)) {
			t.Fatalf("%d rows of %d, %v", n, len(elements), err)
		}
	})
}

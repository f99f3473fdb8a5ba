// Command chart draws what mds bench store --json printed, as SVG.
//
//	mds bench store --json > store.json
//	go run ./internal/bench/chart < store.json > docs/performance.svg
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds/internal/bench"
)

func main() {
	if err := draw(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// The sizes of the drawing, in pixels.
const (
	width  = 860
	left   = 330 // where the bars begin
	right  = 120 // what is kept for the figures
	line   = 22
	header = 56
)

// draw draws the rates of writing: a bar for each figure, in groups of one batch size.
func draw(in io.Reader, out io.Writer) error {
	var report bench.Report
	if err := json.NewDecoder(in).Decode(&report); err != nil {
		return err
	}
	var rows []bench.Row
	most := 0.0
	for _, r := range report.Rows {
		if r.Batch > 0 && r.RowsPerS > 0 {
			rows = append(rows, r)
			most = max(most, r.RowsPerS)
		}
	}
	if len(rows) == 0 {
		return errors.New("no figure of writing in what mds bench store --json printed")
	}
	var body strings.Builder
	y := header
	group := ""
	for _, r := range rows {
		about := "empty table, batches of " + thousands(r.Batch)
		if r.Stored > 0 {
			about = fmt.Sprintf("table of %d million rows", r.Stored/1_000_000)
		}
		if about != group {
			group = about
			y += line / 2
			fmt.Fprintf(&body, `<text x="12" y="%d" font-weight="bold">%s</text>`+"\n", y+15, about)
			y += line
		}
		name := r.Name
		if r.Stored > 0 {
			name += " (" + thousands(r.Batch) + ")"
		}
		color := "#3b7dd8"
		if strings.HasPrefix(r.Name, "limit") {
			color = "#999999"
		}
		length := r.RowsPerS / most * (width - left - right)
		fmt.Fprintf(&body, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.0f" height="14" fill="%s"/><text x="%.0f" y="%d">%s k rows/s</text>`+"\n",
			left-8, y+15, html.EscapeString(name), left, y+4, length, color, left+length+6, y+15, thousands(int(r.RowsPerS/1000+0.5)))
		y += line
	}
	_, err := fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="12" y="24" font-size="16">Bars written to DuckDB, committed, one fsync a batch</text>
<text x="12" y="44" fill="#555555">grey: what the database takes at most; printed by mds bench store --json</text>
%s</svg>
`, width, y+line/2, body.String())
	return err
}

// thousands writes a number with separators.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// Codecs measures reading and writing files of bars, and beside it what the standard
// library takes for as much of the work as it does: cutting a file into records,
// without validation, aliases or a reason for what is wrong.
func Codecs(ctx context.Context, cfg Config) (Report, error) {
	n, rounds := 200_000, 5
	if cfg.Quick {
		n, rounds = 2_000, 1
	}
	market := newMarket()
	var report Report
	for _, order := range []struct {
		name string
		bars []mds.Bar
	}{{"in order of time", market.inTime(0, n)}, {"symbol by symbol", market.bySymbol(10, 0, n/10)}} {
		for _, format := range []struct {
			codec.Format
			peer string
			read func([]byte) (int, error)
		}{
			{codec.FormatCSV, "encoding/csv and strconv", readCSV},
			{codec.FormatNDJSON, "encoding/json", readJSON},
		} {
			if cfg.Progress != nil {
				cfg.Progress(fmt.Sprintf("%s, %s", format.Format, order.name))
			}
			var text bytes.Buffer
			peer := fmt.Sprintf("%s with %s, %s", format.Format, format.peer, order.name)
			var all [][]timing
			for range rounds {
				if err := ctx.Err(); err != nil {
					return report, err
				}
				text.Reset()
				encode, err := timed(func() error { return writeBars(&text, format.Format, order.bars) })
				if err != nil {
					return report, err
				}
				round := []timing{{name: fmt.Sprintf("%s encoded, %s", format.Format, order.name), rows: n, elapsed: encode}}
				for _, way := range []struct {
					name, of string
					read     func([]byte) (int, error)
				}{{peer, "", format.read}, {fmt.Sprintf("%s decoded, %s", format.Format, order.name), peer, func(text []byte) (int, error) { return readBars(text, format.Format) }}} {
					took, err := timed(func() error {
						got, err := way.read(text.Bytes())
						if err == nil && got != n {
							err = fmt.Errorf("%s: %d rows, want %d", way.name, got, n)
						}
						return err
					})
					if err != nil {
						return report, err
					}
					round = append(round, timing{name: way.name, of: way.of, rows: n, elapsed: took})
				}
				all = append(all, round)
			}
			report.Rows = append(report.Rows, summarize(0, all)...)
		}
	}
	return report, nil
}

func writeBars(w io.Writer, format codec.Format, bars []mds.Bar) error {
	encoder, err := codec.NewEncoder[mds.Bar](w, format)
	if err != nil {
		return err
	}
	for i := range bars {
		if err := encoder.Encode(&bars[i]); err != nil {
			return err
		}
	}
	return encoder.Close()
}

func readBars(text []byte, format codec.Format) (n int, err error) {
	decoder, err := codec.NewDecoder[mds.Bar](bytes.NewReader(text), format, codec.Options{})
	if err != nil {
		return 0, err
	}
	for bar := new(mds.Bar); ; n++ {
		if err := decoder.Next(bar); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// readCSV reads bars as a program would that knows its file.
func readCSV(text []byte) (n int, err error) {
	rows := csv.NewReader(bytes.NewReader(text))
	rows.ReuseRecord = true
	if _, err := rows.Read(); err != nil {
		return 0, err
	}
	for ; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		bar := mds.Bar{Vendor: row[0], Symbol: row[1], Timeframe: mds.Timeframe(row[2])}
		if bar.TS, err = time.Parse(time.RFC3339, row[3]); err != nil {
			return n, err
		}
		for i, to := range []*mds.Opt[float64]{&bar.Open, &bar.High, &bar.Low, nil, &bar.Volume} {
			v, err := strconv.ParseFloat(row[4+i], 64)
			if err != nil {
				return n, err
			}
			if to == nil {
				bar.Close = v
			} else {
				*to = mds.Some(v)
			}
		}
	}
}

// readJSON reads bars as a program would that knows its file.
func readJSON(text []byte) (n int, err error) {
	type bar struct {
		Vendor    string    `json:"vendor"`
		Symbol    string    `json:"symbol"`
		Timeframe string    `json:"timeframe"`
		TS        time.Time `json:"ts"`
		Open      *float64  `json:"open"`
		High      *float64  `json:"high"`
		Low       *float64  `json:"low"`
		Close     float64   `json:"close"`
		Volume    *float64  `json:"volume"`
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for ; lines.Scan(); n++ {
		var b bar
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return n, err
		}
	}
	return n, lines.Err()
}

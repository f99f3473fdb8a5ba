package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trade is one of a recording.
type trade struct {
	vendor, symbol string
	price, size    float64
	ts             time.Time     // when it was made, UTC
	at             time.Duration // the same, since the recording began
}

// recording is trades in order of at.
type recording struct {
	name     string
	messages int // that were received, trades among them
	trades   []trade
}

// load reads the recordings of a folder, and puts them side by side, as if all had begun at
// the same moment. A file is what cryptofeed writes, named VENDOR.…: a message a line, after
// the time at which it was received.
func load(dir string) (*recording, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("recordings: %w", err)
	}
	all := &recording{name: dir}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name())) //nolint:gosec // the folder is the user's to name
		if err != nil {
			return nil, fmt.Errorf("recordings: %w", err)
		}
		vendor, _, _ := strings.Cut(strings.ToLower(entry.Name()), ".")
		messages, trades := decode(vendor, text)
		all.messages += messages
		all.trades = append(all.trades, trades...)
	}
	if len(all.trades) == 0 {
		return nil, fmt.Errorf("recordings: there is no trade of Coinbase or Binance in the files of %s", dir)
	}
	inOrder(all.trades)
	return all, nil
}

// decode returns the number of messages received and the trades among them. What was sent
// and messages of other kinds are left out: most of a recording is order books.
func decode(vendor string, text []byte) (messages int, trades []trade) {
	var began time.Time
	for line := range bytes.Lines(text) {
		head, body, _ := bytes.Cut(line, []byte(": "))
		seconds, err := strconv.ParseFloat(string(head), 64)
		if err != nil {
			continue
		}
		if messages++; messages == 1 {
			began = time.UnixMicro(int64(seconds * 1e6))
		}
		if t, ok := decodeTrade(body); ok {
			t.vendor, t.at = vendor, t.ts.Sub(began)
			trades = append(trades, t)
		}
	}
	return messages, trades
}

// decodeTrade reads a message of Coinbase ("match") or Binance ("aggTrade"). The "last_match"
// of Coinbase was made before the recording began.
func decodeTrade(body []byte) (t trade, ok bool) {
	var m struct {
		Type   string      `json:"type"`
		Symbol string      `json:"product_id"`
		Price  json.Number `json:"price"`
		Size   json.Number `json:"size"`
		Time   time.Time   `json:"time"`
		Data   struct {
			Event     string      `json:"e"`
			EventTime int64       `json:"E"` // or it would be taken for e
			Symbol    string      `json:"s"`
			Price     json.Number `json:"p"`
			Size      json.Number `json:"q"`
			Made      int64       `json:"T"` // in milliseconds since 1970
		} `json:"data"`
	}
	if json.Unmarshal(body, &m) != nil {
		return t, false
	}
	price, size := m.Price, m.Size
	switch {
	case m.Type == "match":
		t.symbol, t.ts = m.Symbol, m.Time.UTC()
	case m.Data.Event == "aggTrade":
		t.symbol, t.ts = m.Data.Symbol, time.UnixMilli(m.Data.Made).UTC()
		price, size = m.Data.Price, m.Data.Size
	default:
		return t, false
	}
	var err1, err2 error
	t.price, err1 = price.Float64()
	t.size, err2 = size.Float64()
	return t, err1 == nil && err2 == nil && t.symbol != "" && t.ts.Unix() > 0
}

// inOrder sorts trades by their time in a recording.
func inOrder(trades []trade) {
	slices.SortStableFunc(trades, func(a, b trade) int { return cmp.Compare(a.at, b.at) })
}

package mds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// News is one item of news. Vendor and ID are its key within a tenant: an item
// that comes again under the same id replaces the one before, its time
// included.
type News struct {
	// Vendor is who delivered the item. Stored in lower case.
	Vendor string `json:"vendor"`
	// ID is the vendor's id of the item. Without one it is derived; see
	// [News.DerivedID].
	ID string `json:"id"`
	// PublishedAt is when the item was published. Stored in UTC, cut to
	// microseconds; of an item known by its date alone, 00:00 UTC of that date.
	PublishedAt time.Time `json:"published_at"`
	// Title is the headline, as it came.
	Title string `json:"title"`
	// Symbols are what the item is about, the vendor's order kept. Stored in
	// upper case, each once.
	Symbols []string `json:"symbols"`
	// URL and Summary are empty where they are missing.
	URL     string `json:"url"`
	Summary string `json:"summary"`
	// SentimentScore runs from -1 (bad news) to 1 (good news).
	SentimentScore Opt[float64] `json:"sentiment_score"`
}

const (
	maxIDBytes      = 256
	maxLineBytes    = 8 << 10 // titles and addresses
	maxSummaryBytes = 256 << 10
	maxNewsSymbols  = 1000
)

// Schema describes the news kind.
func (News) Schema() Schema[News] {
	return Schema[News]{
		Kind:        "news",
		Noun:        "news item",
		TimeIsValue: true,
		Columns: []Column[News]{
			{
				Name: "vendor", Role: Identity, Doc: "who delivered the item",
				Text: func(n *News) *string { return &n.Vendor }, Parse: parseVendor,
				Aliases: []string{"provider"}, Default: DefaultVendor,
			},
			{
				Name: "id", Role: Key, Doc: "the vendor's id of the item, or a derived one", Derived: true,
				Text:    func(n *News) *string { return &n.ID },
				Aliases: []string{"news_id", "article_id", "uuid", "guid"},
			},
			{
				Name: "published_at", Role: Time, Doc: "when the item was published, UTC",
				Time:    func(n *News) *time.Time { return &n.PublishedAt },
				Aliases: []string{"published", "published_date", "pub_date", "created_at", "provider_publish_time", "ts", "timestamp", "datetime"},
			},
			{
				Name: "title", Role: Value, Doc: "the headline", Required: true,
				Text:    func(n *News) *string { return &n.Title },
				Aliases: []string{"headline"},
			},
			{
				Name: "symbols", Role: Value, Doc: "what the item is about",
				List: func(n *News) *[]string { return &n.Symbols }, Parse: parseSymbol,
				Aliases: []string{"tickers", "symbol", "ticker", "related_tickers"},
			},
			{
				Name: "url", Role: Value, Doc: "the item's address",
				Text:    func(n *News) *string { return &n.URL },
				Aliases: []string{"link"},
			},
			{
				Name: "summary", Role: Value, Doc: "the item in short",
				Text:    func(n *News) *string { return &n.Summary },
				Aliases: []string{"description", "teaser"},
			},
			{
				Name: "sentiment_score", Role: Value, Doc: "from -1 (bad) to 1 (good)",
				OptFloat: func(n *News) *Opt[float64] { return &n.SentimentScore },
				Aliases:  []string{"sentiment"},
			},
		},
		Validate:  (*News).Validate,
		Normalize: (*News).normalize,
	}
}

// Validate reports every fault of the item at once, as an [*InvalidError].
func (n *News) Validate() error {
	var f faults
	f.add("vendor", vendorFault(n.Vendor))
	f.add("id", idFault(n.ID))
	f.add("published_at", timeFault(n.PublishedAt))
	if strings.TrimSpace(n.Title) == "" {
		f.add("title", "is missing")
	}
	f.add("title", textFault(n.Title, maxLineBytes))
	if len(n.Symbols) > maxNewsSymbols {
		f.add("symbols", fmt.Sprintf("are more than %d", maxNewsSymbols))
	}
	for _, s := range n.Symbols {
		if fault := symbolFault(s); fault != "" {
			f.add("symbols", "one "+fault)
			break
		}
	}
	f.add("url", textFault(n.URL, maxLineBytes))
	f.add("summary", textFault(n.Summary, maxSummaryBytes))
	f.add("sentiment_score", optFault(n.SentimentScore))
	if v, ok := n.SentimentScore.Value(); ok && (v < -1 || v > 1) {
		f.add("sentiment_score", strconv.FormatFloat(v, 'g', -1, 64)+" is outside -1 to 1")
	}
	return f.err()
}

// idFault says what is wrong with an item's id, or "".
func idFault(id string) string {
	if fault := textFault(id, maxIDBytes); fault != "" {
		return fault
	}
	if strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.TrimSpace(id) != id {
		return quoted(id) + " holds white space around it, or a character that cannot be printed"
	}
	return ""
}

// DerivedID returns the id of an item whose vendor gives none: "~" and the
// first 128 bits, in hexadecimal, of the SHA-256 of the vendor, the URL (the
// title where there is none) and the time in microseconds since 1970, each
// but the last followed by a line feed. The same item sent again has the same
// id.
func (n News) DerivedID() string {
	name := n.URL
	if name == "" {
		name = n.Title
	}
	text := NormalizeVendor(n.Vendor) + "\n" + name + "\n" + strconv.FormatInt(n.PublishedAt.UnixMicro(), 10)
	sum := sha256.Sum256([]byte(text))
	return "~" + hex.EncodeToString(sum[:16])
}

// Normalized returns the item in the form that is stored.
func (n News) Normalized() News {
	n.normalize()
	return n
}

func (n *News) normalize() {
	n.Vendor = NormalizeVendor(n.Vendor)
	n.PublishedAt = time.UnixMicro(n.PublishedAt.UnixMicro()).UTC()
	if n.ID == "" {
		n.ID = n.DerivedID()
	}
	var symbols []string
	for _, s := range n.Symbols {
		if s = NormalizeSymbol(s); !slices.Contains(symbols, s) {
			symbols = append(symbols, s)
		}
	}
	n.Symbols = symbols
}

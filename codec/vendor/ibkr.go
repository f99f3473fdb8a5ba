package vendor

import (
	"bytes"
	"encoding/json"
	"errors"
	"html"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// ibkrNews reads the news bodies of Interactive Brokers' Client Portal: the
// list of a contract's items (news.content, times as epoch milliseconds,
// headlines with HTML entities, sentiment from -1 to 1) and the articles of the
// news widget (articles, times of New York without an offset). The widget's
// sentiment is on a scale that is not documented, and is left out.
func ibkrNews() Format[mds.News] {
	return Format[mds.News]{
		Name: "ibkr-news",
		Doc:  "the news bodies of Interactive Brokers' Client Portal; what they are about is given with --symbol, and the widget's times need --tz America/New_York",
		New:  newIBKRNews,
	}
}

type ibkrBody struct {
	News *struct {
		Content []json.RawMessage `json:"content"`
	} `json:"news"`
	Articles []json.RawMessage `json:"articles"`
}

type ibkrItem struct {
	ID        string      `json:"newsId"`
	Headline  string      `json:"headlineContent"`
	Time      json.Number `json:"time"` // epoch milliseconds
	Sentiment string      `json:"sentiment"`
}

type ibkrArticle struct {
	Date  string `json:"date"`
	Title string `json:"title"`
	Link  string `json:"link"`
}

func newIBKRNews(r io.Reader, opt codec.Options) (codec.Decoder[mds.News], error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var body ibkrBody
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, notBody("a news body of Interactive Brokers", err)
	}
	if body.News == nil && body.Articles == nil {
		return nil, &codec.HeaderError{Reason: "it is not a news body of Interactive Brokers: it has neither news.content nor articles"}
	}
	base := mds.News{Vendor: "ibkr"}
	if err := apply(&base, opt, "vendor", "symbols"); err != nil {
		return nil, err
	}
	var items []item[mds.News]
	lines := lineCounter{text: text}
	add := func(raw json.RawMessage, read func() (mds.News, string, error)) error {
		record, field, err := read()
		var setup *codec.SetupError
		if errors.As(err, &setup) {
			setup.Line, setup.Field = lines.of(raw), field
			return setup
		}
		i := item[mds.News]{record: record, line: lines.of(raw), raw: string(raw)}
		if err != nil {
			i.field, i.fault = field, field+": "+err.Error()
		}
		items = append(items, i)
		return nil
	}
	var ignored []string
	if body.News != nil {
		ignored = []string{"source", "conid", "displayTime", "hot", "external"}
		for _, raw := range body.News.Content {
			if err := add(raw, func() (mds.News, string, error) { return readIBKRItem(base, raw) }); err != nil {
				return nil, err
			}
		}
	}
	if body.Articles != nil {
		ignored = append(ignored, "sentiment", "newsSentimentScore")
		for _, raw := range body.Articles {
			if err := add(raw, func() (mds.News, string, error) { return readIBKRArticle(base, raw, opt.Zone) }); err != nil {
				return nil, err
			}
		}
	}
	return newList(items, ignored), nil
}

func readIBKRItem(n mds.News, raw json.RawMessage) (mds.News, string, error) {
	var i ibkrItem
	if err := json.Unmarshal(raw, &i); err != nil {
		return n, "news", errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	millis, err := i.Time.Int64()
	if err != nil {
		return n, "published_at", errors.New(strconv.Quote(i.Time.String()) + " is not a time in milliseconds")
	}
	n.ID, n.Title, n.PublishedAt = i.ID, html.UnescapeString(i.Headline), time.UnixMilli(millis).UTC()
	if i.Sentiment != "" {
		score, err := strconv.ParseFloat(i.Sentiment, 64)
		if err != nil {
			return n, "sentiment_score", errors.New(strconv.Quote(i.Sentiment) + " is not a number")
		}
		n.SentimentScore = mds.Some(score)
	}
	return n, "", nil
}

func readIBKRArticle(n mds.News, raw json.RawMessage, zone *time.Location) (mds.News, string, error) {
	var a ibkrArticle
	if err := json.Unmarshal(raw, &a); err != nil {
		return n, "articles", errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	t, err := codec.ParseInstant(a.Date, zone)
	if err != nil {
		return n, "published_at", err
	}
	n.Title, n.URL, n.PublishedAt = html.UnescapeString(a.Title), a.Link, t
	return n, "", nil
}

// lineCounter finds the lines on which the parts of a text begin, which are
// asked for in order.
type lineCounter struct {
	text   []byte
	offset int
	line   int
}

func (c *lineCounter) of(part []byte) int {
	at := bytes.Index(c.text[c.offset:], part)
	if at >= 0 {
		c.line += bytes.Count(c.text[c.offset:c.offset+at], []byte("\n"))
		c.offset += at
	}
	return c.line + 1
}

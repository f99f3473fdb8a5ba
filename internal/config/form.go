package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// shape is what a setting is in the file.
type shape int

const (
	shapeText shape = iota
	shapeNumber
	shapeSize // a text, or a number of bytes
	shapeBool
	shapeList  // of texts
	shapeTable // of numbers
	shapeTexts // a table of texts
)

// form is what a setting may be.
type form struct {
	shape shape
	write string // what to, such as: write a duration such as 30s
	// set puts a text into the setting's place, and reports whether it may be there.
	set func(text string) bool
}

func text(to *string) form {
	return form{shapeText, "write a text of one line, or leave it out", func(text string) bool {
		*to = text
		return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' })
	}}
}

func choice(to *string, of ...string) form {
	return form{shapeText, "use " + strings.Join(of[:len(of)-1], ", ") + " or " + of[len(of)-1], func(text string) bool {
		*to = text
		return slices.Contains(of, text)
	}}
}

func dsn(to *string, write string, schemes ...string) form {
	return form{shapeText, "write " + write, func(text string) bool {
		*to = text
		return slices.ContainsFunc(schemes, func(s string) bool { return strings.HasPrefix(text, s) && text != s })
	}}
}

// memoryLimit is what DuckDB takes for one.
var memoryLimit = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?[KMGkmg]i?[Bb]$`)

func memory(to *string) form {
	return form{shapeText, "use a number and KB, MB or GB, such as 512MB or 2GB", func(text string) bool {
		*to = text
		return memoryLimit.MatchString(text)
	}}
}

func count(to *int, least, most int, what string) form {
	write := fmt.Sprintf("write %s, %d or more", what, least)
	if most < 1<<20 {
		write += ", up to " + grouped(most)
	}
	return form{shapeNumber, write, func(text string) (ok bool) {
		n, err := strconv.Atoi(text)
		*to = n
		return err == nil && n >= least && n <= most
	}}
}

// grouped writes a number of up to six digits with commas.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// mostNumber is more than any rate or factor is.
const mostNumber = 1e15

func number(to *float64, least float64, write string) form {
	return form{shapeNumber, write, func(text string) bool {
		n, err := strconv.ParseFloat(text, 64)
		*to = n
		return err == nil && n >= least && n <= mostNumber
	}}
}

// not is set to the contrary.
func not(to *bool) form {
	return form{shapeBool, "write true or false", func(text string) bool {
		is, err := strconv.ParseBool(text)
		*to = !is
		return err == nil
	}}
}

// mostDuration is longer than anybody waits.
const mostDuration = 10 * 365 * 24 * time.Hour

func duration(to *time.Duration) form {
	return form{shapeText, "write a duration such as 250ms, 30s or 1m", func(text string) bool {
		d, err := time.ParseDuration(text)
		*to = d
		return err == nil && d > 0 && d <= mostDuration
	}}
}

// durationOrNone is set to -1 for none.
func durationOrNone(to *time.Duration, write string) form {
	return form{shapeText, write, func(text string) bool {
		d, err := time.ParseDuration(text)
		if *to = d; d == 0 {
			*to = -1
		}
		return err == nil && d >= 0 && d <= mostDuration
	}}
}

func size(to *int64, least int64, example string) form {
	return form{shapeSize, "write a size such as " + example, func(text string) bool {
		n, err := parseBytes(text)
		*to = n
		return err == nil && n >= least
	}}
}

// errNoSize is what [parseBytes] says.
var errNoSize = errors.New("no size")

// parseBytes reads a size such as 64MiB or 100MB, or a number of bytes.
func parseBytes(text string) (int64, error) {
	number := strings.TrimRight(text, "kKMGiB")
	n, err := strconv.ParseInt(number, 10, 64)
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[text[len(number):]]
	if err != nil || !ok || n < 1 || n > (1<<62)/unit {
		return 0, errNoSize
	}
	return n * unit, nil
}

func address(to *string) form {
	return form{shapeText, "write host:port, such as 127.0.0.1:8080", func(text string) bool {
		*to = text
		_, port, err := net.SplitHostPort(text)
		_, portErr := strconv.ParseUint(port, 10, 16)
		return err == nil && portErr == nil
	}}
}

// loopback is an address that only this machine reaches.
func loopback(to *string) form {
	f := address(to)
	inner := f.set
	f.write = "write an address of loopback, such as 127.0.0.1:6060: it asks nobody for keys; others read /metrics where serve.listen is, with a key of the scope metrics"
	f.set = func(text string) bool {
		if !inner(text) {
			return false
		}
		host, _, _ := net.SplitHostPort(text)
		ip, err := netip.ParseAddr(host)
		return host == "localhost" || err == nil && ip.IsLoopback()
	}
	return f
}

// webURL is where something is posted to.
func webURL(to *string) form {
	return form{shapeText, "write a URL such as https://host/path", func(text string) bool {
		*to = text
		u, err := url.Parse(text)
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	}}
}

// origins are a scheme and a host, and a port that is not the scheme's own, as browsers
// send them; or * alone.
func origins(to *[]string) form {
	const write = "write origins as browsers send them, such as https://notebook.example.com: the host in lower case, a port that is not the usual one, no path; or * alone"
	return form{shapeList, write, func(text string) bool {
		*to = splitList(text)
		return slices.Equal(*to, []string{"*"}) || !slices.ContainsFunc(*to, func(origin string) bool { return !isOrigin(origin) })
	}}
}

func isOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Host, "*?") || strings.HasSuffix(u.Host, ":") {
		return false
	}
	usual, ok := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return ok && u.Port() != usual && origin == u.Scheme+"://"+strings.ToLower(u.Host)
}

// hosts are names or addresses, with ports where they are not the usual ones.
func hosts(to *[]string) form {
	const write = "write hosts in lower case, such as api.example.com, with a port that is not the usual one, such as files.example.com:8443"
	return form{shapeList, write, func(text string) bool {
		*to = splitList(text)
		return !slices.ContainsFunc(*to, func(host string) bool {
			u, err := url.Parse("https://" + host)
			return err != nil || u.Hostname() == "" || u.Host != strings.ToLower(host) || host != u.Host || u.Port() == "443" || strings.HasSuffix(host, ":") || strings.ContainsAny(host, "*{}")
		})
	}}
}

// byTenant are numbers by slugs.
func byTenant(to *map[string]float64) form {
	const write = "write each tenant once, by its name, with a number a second, such as acme = 50000 (in the environment acme=50000,other=100), or 0 for no limit"
	return form{shapeTable, write, func(text string) bool {
		*to = make(map[string]float64)
		for _, pair := range splitList(text) {
			slug, number, ok := strings.Cut(pair, "=")
			slug = strings.TrimSpace(slug)
			rate, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			_, nameErr := mds.NewTenant(slug)
			if _, twice := (*to)[slug]; !ok || err != nil || nameErr != nil || twice || !(rate >= 0 && rate <= mostNumber) {
				return false
			}
			(*to)[slug] = rate
		}
		return true
	}}
}

// logins are DSNs by slugs.
func logins(to *map[string]string) form {
	const write = "write each tenant once, by its name, with the DSN of its own login, such as acme = \"postgres://acme_bi@HOST/DATABASE\" (in the environment acme=postgres://…, with spaces between several)"
	return form{shapeTexts, write, func(text string) bool {
		*to = make(map[string]string)
		for _, pair := range strings.Fields(text) {
			slug, login, ok := strings.Cut(pair, "=")
			_, nameErr := mds.NewTenant(slug)
			if _, twice := (*to)[slug]; !ok || nameErr != nil || twice || !strings.HasPrefix(login, "postgres://") && !strings.HasPrefix(login, "postgresql://") {
				return false
			}
			(*to)[slug] = login
		}
		return true
	}}
}

func splitList(text string) []string {
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// written is a value as the file has it.
func (f form) written(text string) string {
	switch f.shape {
	case shapeNumber:
		return decimal(text)
	case shapeBool:
		is, _ := strconv.ParseBool(text) // it was set
		return strconv.FormatBool(is)
	case shapeList:
		items := splitList(text)
		for i := range items {
			items[i] = quoted(items[i])
		}
		return "[" + strings.Join(items, ", ") + "]"
	case shapeTexts:
		pairs := strings.Fields(text)
		for i, pair := range pairs {
			slug, value, _ := strings.Cut(pair, "=")
			pairs[i] = slug + " = " + quoted(value)
		}
		return "{ " + strings.Join(pairs, ", ") + " }"
	case shapeTable:
		rates := make(map[string]string)
		for _, pair := range splitList(text) {
			slug, number, _ := strings.Cut(pair, "=")
			rates[strings.TrimSpace(slug)] = decimal(strings.TrimSpace(number))
		}
		var pairs []string
		for _, slug := range slices.Sorted(maps.Keys(rates)) {
			pairs = append(pairs, slug+" = "+rates[slug])
		}
		return "{ " + strings.Join(pairs, ", ") + " }"
	}
	return quoted(text)
}

// decimal is a number, however it was written, as TOML has it.
func decimal(text string) string {
	n, _ := strconv.ParseFloat(text, 64) // it was set
	return strconv.FormatFloat(n, 'f', -1, 64)
}

// quoted is a text of TOML.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The picture, in pixels: two panels, one above the other.
const (
	width, height      = 860, 470
	left, right        = 70, 24
	plot               = width - left - right
	ratesTop, ratesLow = 84, 264
	depthTop, depthLow = 318, 428
)

// style has colours for light and dark, which the browser picks from.
const style = `<style>
text{font:12px sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:bold}.quiet{fill:#59636e}.ground{fill:#fff}
.grid{stroke:#d1d9e0}.mark{stroke:#59636e;stroke-dasharray:2 4}.slow{fill:#818b98;fill-opacity:.16}
polyline{fill:none;stroke-width:2;stroke-linejoin:round}.submitted{stroke:#0969da}.suggested{stroke:#bc4c00;stroke-dasharray:6 4}
.depth{fill:#1a7f37;fill-opacity:.25;stroke:#1a7f37;stroke-width:1.5}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.ground{fill:#0d1117}.grid{stroke:#30363d}.mark{stroke:#9198a1}
.submitted{stroke:#58a6ff}.suggested{stroke:#f0883e}.depth{fill:#3fb950;stroke:#3fb950}}
</style>
`

// chart draws a run as SVG.
func chart(samples []sample, opt options) []byte {
	var b bytes.Buffer
	// Two hyphens would end the comment.
	fmt.Fprintf(&b, "<!-- %s -->\n", strings.ReplaceAll(opt.command, "--", "- -"))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img">`+"\n", width, height)
	b.WriteString("<title>A producer that follows the rate its store suggests</title>\n" + style)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d"/>`+"\n", width, height)
	text(&b, 14, 26, "title", "start", "A producer that follows the rate its store suggests")
	engine := "PostgreSQL"
	if opt.duckDB() {
		engine = "DuckDB"
	}
	text(&b, 14, 46, "quiet", "start", fmt.Sprintf("trades replayed %g times as fast, as %s bars, into %s", opt.speed, opt.timeframe, engine))
	span := opt.duration
	rates, depth := 1.0, float64(capacity)
	for _, s := range samples {
		span = max(span, s.at)
		rates = max(rates, s.submitted, s.suggested)
	}
	x := func(at time.Duration) float64 { return left + plot*at.Seconds()/span.Seconds() }
	slow(&b, opt.throttle, span, x)
	seconds(&b, span, x)

	y := axis(&b, ratesTop, ratesLow, rates)
	text(&b, left, ratesTop-14, "", "start", "bars a second")
	legend(&b, left+120, "submitted")
	legend(&b, left+250, "suggested")
	line(&b, "suggested", samples, func(s sample) (float64, float64) { return x(s.at), y(s.suggested) })
	line(&b, "submitted", samples, func(s sample) (float64, float64) { return x(s.at), y(s.submitted) })

	y = axis(&b, depthTop, depthLow, depth)
	text(&b, left, depthTop-14, "", "start", "bars queued or being written, of the capacity")
	for name, share := range map[string]float64{"soft": 0.5, "hard": 0.8} {
		fmt.Fprintf(&b, `<path class="mark" d="M%d %.1fH%d"/>`+"\n", left, y(depth*share), width-right)
		text(&b, width-right-4, y(depth*share)-3, "quiet", "end", name)
	}
	area(&b, samples, x, y)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// slow shows when the store was made slow.
func slow(b *bytes.Buffer, t throttle, span time.Duration, x func(time.Duration) float64) {
	if t.to == 0 || t.from >= span {
		return
	}
	from, to := x(t.from), x(min(t.to, span))
	fmt.Fprintf(b, `<rect class="slow" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", from, ratesTop, to-from, depthLow-ratesTop)
	text(b, (from+to)/2, ratesTop+16, "quiet", "middle", fmt.Sprintf("the store takes %.3g%% of what it took", 100*t.share))
}

// seconds draws the axis of time.
func seconds(b *bytes.Buffer, span time.Duration, x func(time.Duration) float64) {
	step := time.Duration(math.Ceil(niceStep(span.Seconds()))) * time.Second
	for at := time.Duration(0); at <= span; at += step {
		text(b, x(at), depthLow+20, "quiet", "middle", fmt.Sprintf("%.0f s", at.Seconds()))
	}
}

// axis draws a panel's lines up to a value, and returns where a value is.
func axis(b *bytes.Buffer, top, low int, upTo float64) (y func(float64) float64) {
	step := niceStep(upTo)
	highest := step * math.Ceil(upTo/step)
	y = func(v float64) float64 { return float64(low) - float64(low-top)*v/highest }
	for v := 0.0; v <= highest; v += step {
		fmt.Fprintf(b, `<path class="grid" d="M%d %.1fH%d"/>`+"\n", left, y(v), width-right)
		text(b, left-8, y(v)+4, "quiet", "end", thousands(int64(v)))
	}
	return y
}

// niceStep is 1, 2 or 5 times a power of ten, of which three to six make a value.
func niceStep(upTo float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(upTo/3)))
	for _, n := range []float64{5, 2} {
		if n*power <= upTo/3 {
			return n * power
		}
	}
	return power
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func line(b *bytes.Buffer, class string, samples []sample, at func(sample) (x, y float64)) {
	fmt.Fprintf(b, `<polyline class="%s" points="`, class)
	for _, s := range samples {
		x, y := at(s)
		fmt.Fprintf(b, "%.1f,%.1f ", x, y)
	}
	b.WriteString("\"/>\n")
}

// area draws the depth of the queue.
func area(b *bytes.Buffer, samples []sample, x func(time.Duration) float64, y func(float64) float64) {
	fmt.Fprintf(b, `<path class="depth" d="M%d %d`, left, depthLow)
	last := 0.0 + left
	for _, s := range samples {
		last = x(s.at)
		fmt.Fprintf(b, "L%.1f %.1f", last, y(float64(s.depth)))
	}
	fmt.Fprintf(b, `L%.1f %dZ"/>`+"\n", last, depthLow)
}

func legend(b *bytes.Buffer, x int, class string) {
	fmt.Fprintf(b, `<polyline class="%s" points="%d,%d %d,%[3]d"/>`+"\n", class, x, ratesTop-18, x+28)
	text(b, float64(x+36), ratesTop-14, "", "start", class)
}

func text(b *bytes.Buffer, x, y float64, class, anchor, words string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">`, x, y, class, anchor)
	_ = xml.EscapeText(b, []byte(words)) // a buffer takes all
	b.WriteString("</text>\n")
}

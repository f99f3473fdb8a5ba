package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// upload is how long the bodies of TestUpload are: make withstand has such of 5 GB.
var upload = flag.Int("upload", 200, "how long the bodies of TestUpload are, in MB as they are unpacked")

// mostResident is what a server may take of the machine's memory for a body of any length.
const mostResident = 300 << 20

// TestUpload sends bodies that are much longer than what the server may take of memory.
func TestUpload(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("the system does not tell what memory a process takes:", err)
	}
	for _, tt := range []struct{ name, media, coding string }{
		{"Arrow", "application/vnd.apache.arrow.stream", ""},
		{"NDJSON", "application/x-ndjson", ""},
		{"CSV", "text/csv", ""},
		{"NDJSON, gzip", "application/x-ndjson", "gzip"},
		{"CSV, zstd", "text/csv", "zstd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if *upload < 1000 && tt.name != "Arrow" {
				t.Skip("make withstand has it")
			}
			c := newCLI(t)
			c.binary = plainProgram(t)
			s := c.serve()
			r, w := io.Pipe()
			sent := make(chan int64, 1)
			go func() {
				rows, err := longBody(w, tt.media, tt.coding, int64(*upload)*1e6)
				sent <- rows
				_ = w.CloseWithError(err)
			}()
			begun := time.Now()
			a, err := send(s.url+"/v1/bars", tt.media, tt.coding, r)
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			if rows := <-sent; a.Committed != rows || a.Read != rows {
				t.Errorf("of %d rows %+v", rows, a)
			}
			peak := resident(t, s.Process.Pid, "VmHWM:")
			t.Logf("%d MB, %d rows in %.1f s: at most %d MB resident, the store is %d MB", *upload, a.Read, took.Seconds(), peak>>20, sizeOf(t, c)>>20)
			if peak > mostResident {
				t.Errorf("%d MB are resident, want at most %d", peak>>20, mostResident>>20)
			}
		})
	}
}

// plainProgram is the program without the race detector, which takes many times the memory.
func plainProgram(t *testing.T) string {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return "" // this one
	}
	path, err := builtPlain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// builtPlain builds it, once in a process.
var builtPlain = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mds-plain-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "mds")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// send posts records, which have to be taken in.
func send(url, media, coding string, body io.Reader) (a client.Answer, err error) {
	r, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		return a, err
	}
	r.Header.Set("Content-Type", media)
	if coding != "" {
		r.Header.Set("Content-Encoding", coding)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(text, &a)
}

// longBody writes bars until they are so many bytes, unpacked. After 20 million the same
// bars come again: the store grows no further.
func longBody(w io.Writer, media, coding string, size int64) (rows int64, err error) {
	buffered := bufio.NewWriterSize(w, 256<<10)
	unpacked := &counter{w: buffered}
	packer := io.WriteCloser(nil)
	switch coding {
	case "gzip":
		packer, err = gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	case "zstd":
		packer, err = zstd.NewWriter(buffered, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		return 0, err
	}
	if packer != nil {
		unpacked.w = packer
	}
	encode, end, err := encoder(unpacked, media)
	if err != nil {
		return 0, err
	}
	const part = 10_000
	bars := make([]mds.Bar, part)
	for unpacked.n < size && err == nil {
		for i := range bars {
			longBar(&bars[i], rows+int64(i))
		}
		err = encode(bars)
		rows += part
	}
	if err == nil {
		err = end()
	}
	if err == nil && packer != nil {
		err = packer.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	return rows, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// longBar is row number n of a long body: 500 symbols, minute by minute.
func longBar(b *mds.Bar, n int64) {
	const keys = 20_000_000
	key := n % keys
	price := float64(10_000+(key*7919)%90_000) / 100
	*b = mds.Bar{
		Vendor: "load", Symbol: longSymbols[key%int64(len(longSymbols))], Timeframe: mds.Minute,
		TS:   time.Unix(1_600_000_020+key/int64(len(longSymbols))*60, 0).UTC(),
		Open: mds.Some(price), High: mds.Some(price + 0.5), Low: mds.Some(price - 0.5), Close: price + 0.25, Volume: mds.Some(float64(100 + key%10_000)),
	}
}

var longSymbols = func() (names []string) {
	for i := range 500 {
		names = append(names, fmt.Sprintf("SYM%03d", i))
	}
	return names
}()

// encoder writes bars in the form of a media type.
func encoder(w io.Writer, media string) (encode func([]mds.Bar) error, end func() error, err error) {
	if strings.HasSuffix(media, "arrow.stream") {
		stream, err := arrow.NewWriter[mds.Bar](w, arrow.WriterOptions{})
		if err != nil {
			return nil, nil, err
		}
		return stream.Write, stream.Close, nil
	}
	rows, err := codec.NewEncoder[mds.Bar](w, map[string]codec.Format{"text/csv": codec.FormatCSV, "application/x-ndjson": codec.FormatNDJSON}[media])
	if err != nil {
		return nil, nil, err
	}
	return func(bars []mds.Bar) error {
		for i := range bars {
			if err := rows.Encode(&bars[i]); err != nil {
				return err
			}
		}
		return nil
	}, rows.Close, nil
}

// resident is what a process has of the machine's memory, in bytes: VmRSS: now, VmHWM: at
// most until now.
func resident(t *testing.T, pid int, what string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte(what))
	fields := strings.Fields(string(rest))
	if len(fields) < 2 || fields[1] != "kB" {
		t.Fatalf("no %s in %s", what, status)
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// sizeOf is how large the files of a store are.
func sizeOf(t *testing.T, c *cli) (size int64) {
	t.Helper()
	dir := strings.TrimPrefix(c.dsn, "duckdb://")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
)

// A line is
//
//	{"crc":"0a1b2c3d","len":7,"no":1}
//
// and a line feed: the length of what follows it, the closing brace included,
// and the CRC-32C of all from the length on.
const (
	crcMark    = `{"crc":"`
	lengthMark = `","len":`
	lengthAt   = len(crcMark) + 8 + len(lengthMark)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendLine appends a line of a body, which is a JSON object without its opening
// brace.
func appendLine(dst, body []byte) []byte {
	start := len(dst)
	dst = append(append(append(dst, crcMark...), "00000000"...), lengthMark...)
	dst = append(append(strconv.AppendInt(dst, int64(len(body)), 10), ','), body...)
	sum := fmt.Appendf(nil, "%08x", crc32.Checksum(dst[start+lengthAt:], castagnoli))
	copy(dst[start+len(crcMark):], sum)
	return append(dst, '\n')
}

// lineIn returns the line that data begins with, without its line feed, or nil
// where there is none that is whole and intact.
func lineIn(data []byte) []byte {
	if len(data) < lengthAt || string(data[:len(crcMark)]) != crcMark || string(data[len(crcMark)+8:lengthAt]) != lengthMark {
		return nil
	}
	digits := data[lengthAt:]
	comma := bytes.IndexByte(digits[:min(len(digits), 20)], ',')
	if comma < 0 {
		return nil
	}
	n, err := strconv.Atoi(string(digits[:comma]))
	if err != nil || n < 0 || n > len(digits)-comma-1 {
		return nil
	}
	end := lengthAt + comma + 1 + n
	sum := fmt.Appendf(make([]byte, 0, 8), "%08x", crc32.Checksum(data[lengthAt:end], castagnoli))
	if !bytes.Equal(sum, data[len(crcMark):len(crcMark)+8]) {
		return nil
	}
	return data[:end]
}

// piece is a part of a file: a line, something damaged, or a tail.
type piece struct {
	line []byte // nil where none is whole and intact
	at   int64  // where it begins
	// damaged says that the file is not as it was written here. The line may be intact
	// all the same, if what is damaged is its line feed.
	damaged bool
	// torn says that the file ends before the line does: nobody was told that it is there.
	torn bool
}

// pieces reads a file of lines piece by piece. After something damaged it goes
// on with the next line.
type pieces struct {
	r    *bufio.Reader
	rest []byte
	at   int64
}

func newPieces(r io.Reader) *pieces { return &pieces{r: bufio.NewReaderSize(r, 1<<16)} }

// next returns io.EOF at the end. The line is valid until the next call.
func (p *pieces) next() (piece, error) {
	if len(p.rest) == 0 {
		data, err := p.r.ReadBytes('\n')
		if err != nil && (!errors.Is(err, io.EOF) || len(data) == 0) {
			return piece{}, err
		}
		p.rest = data
	}
	found := piece{at: p.at, line: lineIn(p.rest)}
	size := len(p.rest)
	switch {
	case found.line != nil && len(found.line) < size:
		size = len(found.line) + 1
		found.damaged = p.rest[size-1] != '\n'
	case p.rest[size-1] == '\n':
		found.damaged = true
	default:
		found.line, found.torn = nil, true
	}
	p.rest = p.rest[size:]
	p.at += int64(size)
	return found, nil
}

const (
	formatName    = "mds-dead-letters"
	formatVersion = 1
)

func header() []byte {
	return appendLine(nil, fmt.Appendf(nil, `"format":%q,"version":%d}`, formatName, formatVersion))
}

// versionOf returns the version of the format that a line is the header of, 0
// for lines that are none.
func versionOf(line []byte) int {
	if !bytes.HasPrefix(body(line), []byte(`"format":"`+formatName+`"`)) {
		return 0
	}
	var header struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(line, &header) != nil {
		return 0
	}
	return header.Version
}

// body is what follows the length.
func body(line []byte) []byte {
	_, after, _ := bytes.Cut(line[lengthAt:], []byte{','})
	return after
}

const numberMark = `"no":`

// numberOf returns the number of the letter in a line, 0 for lines without one.
func numberOf(line []byte) int {
	digits, found := bytes.CutPrefix(body(line), []byte(numberMark))
	if !found {
		return 0
	}
	digits, _, _ = bytes.Cut(digits, []byte{','})
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 1 || n > maxNumber {
		return 0
	}
	return n
}

// appendLetter appends what a letter's line says after its number.
func appendLetter(dst []byte, l *Letter) []byte {
	texts := []struct{ name, value string }{
		{"kind", l.Kind}, {"tenant", l.Tenant.Slug}, {"tenant_id", l.Tenant.ID}, {"code", l.Code}, {"reason", l.Reason},
	}
	for _, t := range texts {
		dst = append(appendText(fmt.Appendf(dst, `"%s":`, t.name), t.value), ',')
	}
	dst = fmt.Appendf(dst, `"schema_version":%d,"attempts":%d,"submitted":`, l.SchemaVersion, l.Attempts)
	dst = appendTime(dst, l.Submitted)
	dst = appendTime(append(dst, `,"died":`...), l.Died)
	dst = append(append(dst, `,"record":`...), l.Record...)
	return append(dst, '}')
}

// parseLetter reads an intact line. The record does not share its memory.
func parseLetter(line []byte) (l Letter, err error) {
	var form struct {
		Kind, Tenant, Code, Reason, Submitted, Died, Record json.RawMessage

		TenantID      json.RawMessage `json:"tenant_id"`
		SchemaVersion int             `json:"schema_version"`
		Attempts      int
	}
	if err := json.Unmarshal(line, &form); err != nil {
		return l, fmt.Errorf("the letter cannot be read: %w", err)
	}
	l = Letter{SchemaVersion: form.SchemaVersion, Attempts: form.Attempts, Record: form.Record, Tenant: mds.Tenant{}}
	for _, t := range []struct {
		name   string
		raw    json.RawMessage
		target *string
	}{{"kind", form.Kind, &l.Kind}, {"tenant", form.Tenant, &l.Tenant.Slug}, {"tenant_id", form.TenantID, &l.Tenant.ID}, {"code", form.Code, &l.Code}, {"reason", form.Reason, &l.Reason}} {
		if *t.target, err = parseText(t.raw); err != nil {
			return l, fmt.Errorf("the letter cannot be read: %s: %s %w", t.name, t.raw, err)
		}
	}
	for _, t := range []struct {
		name   string
		raw    json.RawMessage
		target *time.Time
	}{{"submitted", form.Submitted, &l.Submitted}, {"died", form.Died, &l.Died}} {
		if *t.target, err = parseTime(t.raw); err != nil {
			return l, fmt.Errorf("the letter cannot be read: %s: %s %w", t.name, t.raw, err)
		}
	}
	return l, nil
}

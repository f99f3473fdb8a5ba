package backfill

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
)

// Headers are what hosts are asked with: those of the lines of the files in dir that are named
// as the hosts, a port after an underscore. A host without a file is asked with none, and of
// "" none is. Its error names the file and the line, not what stands there.
func Headers(dir string, hosts []string) (map[string]http.Header, error) {
	all := make(map[string]http.Header)
	for _, host := range hosts {
		all[host] = http.Header{}
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, strings.ReplaceAll(strings.Trim(host, "[]"), ":", "_"))
		text, err := os.ReadFile(path) //nolint:gosec // a file of the settings
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, inner(err))
		}
		if all[host], err = headers(text); err != nil {
			return nil, fmt.Errorf("%s:%w", path, err)
		}
	}
	return all, nil
}

// headers reads the lines of a file.
func headers(text []byte) (http.Header, error) {
	out := http.Header{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := textproto.NewReader(bufio.NewReader(strings.NewReader(line + "\r\n\r\n"))).ReadMIMEHeader()
		if err != nil {
			return nil, fmt.Errorf("%d: it is no header: write Name: value", n)
		}
		for name, values := range one {
			out[name] = append(out[name], values...)
		}
	}
	return out, lines.Err()
}

package deadletter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// failed says which folder an error is about and what to do about it.
func failed(dir string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) && !errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%s: %w", pathErr.Path, pathErr.Err)
	} else if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = "; let this program write there, or name another folder with MDS_DLQ_DIR"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = "; make room on the disk"
	}
	return fmt.Errorf("dead letters in %s: %w%s", dir, err, advice)
}

// DamagedError is a part of a file that is not as it was written. The letters
// before and after it are intact.
type DamagedError struct {
	Path string
	// Offset is where it begins, in bytes.
	Offset int64
	Err    error // more of it, or nil
}

func (e *DamagedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s, from byte %d: %v", e.Path, e.Offset, e.Err)
	}
	return fmt.Sprintf("%s is damaged at byte %d", e.Path, e.Offset)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// errVersion is a segment of a newer program. It is left where it is.
var errVersion = errors.New("it was written by a newer version of this program; use that one")

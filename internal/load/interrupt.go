package load

import (
	"context"
	"io"
)

// interruptible returns a reader of r whose reads end when ctx does, with
// ctx's error. A read of r that blocks then is left behind: it is for standard
// input, which lives as long as the process.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	type chunk struct {
		data []byte
		err  error
	}
	chunks := make(chan chunk)
	go func() {
		for {
			buffer := make([]byte, 64<<10)
			n, err := r.Read(buffer)
			select {
			case chunks <- chunk{buffer[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var current chunk
	return readerFunc(func(p []byte) (int, error) {
		for len(current.data) == 0 {
			if current.err != nil {
				return 0, current.err
			}
			select {
			case current = <-chunks:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		n := copy(p, current.data)
		current.data = current.data[n:]
		return n, nil
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

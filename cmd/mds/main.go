// Command mds is the market data store: it loads files into a store, queries
// it and looks after it. Run mds help for its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // --tz works where the system has no zone database

	"golang.org/x/term"

	"github.com/marketdatastore/mds/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; a second one ends at once.
	context.AfterFunc(ctx, stop)
	app := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		color: term.IsTerminal(int(os.Stdout.Fd())),
		env:   config.Environment(),
	}
	os.Exit(app.run(ctx, os.Args[1:]))
}

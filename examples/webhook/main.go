// Command webhook is both sides of a webhook: a store whose queue fills and empties tells
// its levels to a receiver, which a producer elsewhere would run beside its rate controller.
//
//	go run ./examples/webhook
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// secret is shared by both sides; yours comes from where secrets are kept.
var secret = []byte("an example, not a secret")

func run(ctx context.Context, w io.Writer) (err error) {
	levels := make(chan feedback.Level, 16)
	controller, err := feedback.NewRateController(feedback.ControllerConfig{})
	if err != nil {
		return err
	}
	url, closeReceiver, err := receive(ctx, func(e feedback.Event) {
		controller.Observe(e) // the producer asks controller.Wait before it submits
		levels <- e.Level
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeReceiver()) }()

	gate := make(gated)
	c, err := ingest.New(ctx, gate, ingest.Config[mds.Bar]{Capacity: 100, Lanes: 1, Workers: 1})
	if err != nil {
		return err
	}
	hook, err := feedback.NewWebhook(c.Feedback(), feedback.WebhookConfig{URL: url, Secret: secret})
	if err != nil {
		return err
	}
	hooked := make(chan error, 1)
	go func() { hooked <- hook.Run(ctx) }() // until the coordinator is stopped

	bars := c.For(mds.DefaultTenant())
	for i := range 90 { // while the store takes none
		if _, err := bars.Submit(ctx, bar(i)); err != nil {
			return err
		}
	}
	show := func(until feedback.Level) {
		for level := range levels {
			if fmt.Fprintln(w, level); level == until {
				return
			}
		}
	}
	show(feedback.Hard)
	close(gate) // it takes them all
	show(feedback.OK)
	return errors.Join(c.Stop(ctx), <-hooked)
}

// receive serves a receiver on loopback.
func receive(ctx context.Context, handle func(feedback.Event)) (url string, stop func() error, err error) {
	receiver, err := feedback.NewReceiver(feedback.ReceiverConfig{Secret: secret}, handle)
	if err != nil {
		return "", nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: receiver, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return "http://" + listener.Addr().String() + "/feedback", func() error {
		err := server.Close()
		if served := <-served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// gated is a store that takes nothing until it is closed.
type gated chan struct{}

func (g gated) WriteBatch(ctx context.Context, _ mds.Tenant, bars []mds.Bar) (mds.Receipt, error) {
	select {
	case <-g:
		return mds.Receipt{Written: int64(len(bars))}, nil
	case <-ctx.Done():
		return mds.Receipt{}, ctx.Err()
	}
}

func bar(i int) mds.Bar {
	return mds.Bar{Vendor: "demo", Symbol: "BTC-PERP", Timeframe: mds.Minute, TS: time.Unix(int64(1_709_510_400+60*i), 0).UTC(), Close: 67_000}
}

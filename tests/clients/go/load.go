package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// loadDeadline bounds every load: none may run on when a broker hangs.
const loadDeadline = 10 * time.Minute

// requests counts what goes over the wire, for figures per request.
type requests struct{ produce, fetch atomic.Int64 }

func (r *requests) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if e2e.Err() != nil {
		return
	}
	switch kmsg.Key(key) {
	case kmsg.Produce:
		r.produce.Add(1)
	case kmsg.Fetch:
		r.fetch.Add(1)
	}
}

// payload is noise, so that nothing on the way can profit from its content.
func payload(size int) []byte {
	value := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(value)
	return value
}

func report(figures map[string]any) error {
	return json.NewEncoder(os.Stdout).Encode(figures)
}

type load struct {
	bootstrap, topic        string
	count, size, batchBytes int
	fetchBytes              int // 0: the client's default
}

// produceFull sends `count` records in batches as full as `batchBytes` allows, as fast as it goes.
func (l load) produceFull() error {
	var wire requests
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.bootstrap), kgo.DefaultProduceTopic(l.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(l.batchBytes)), kgo.ProducerLinger(20*time.Millisecond),
		kgo.MaxBufferedRecords(1<<20), kgo.MaxBufferedBytes(32<<20), kgo.WithHooks(&wire),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), loadDeadline)
	defer cancel()
	value := payload(l.size)
	var failed atomic.Pointer[error]
	began := time.Now()
	for i := 0; i < l.count && failed.Load() == nil; i++ {
		client.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return report(map[string]any{"seconds": time.Since(began).Seconds(), "requests": wire.produce.Load()})
}

// produceSingly sends one record a request, each after the answer to the one before, over
// `clients` connections.
func (l load) produceSingly(clients int) error {
	ctx, cancel := context.WithTimeout(context.Background(), loadDeadline)
	defer cancel()
	var wire requests
	results := make(chan error, clients)
	began := time.Now()
	for n := range clients {
		go func() { results <- l.oneByOne(ctx, l.count/clients, n, &wire) }()
	}
	var err error
	for range clients {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		return err
	}
	return report(map[string]any{"seconds": time.Since(began).Seconds(), "requests": wire.produce.Load()})
}

func (l load) oneByOne(ctx context.Context, count, seed int, wire *requests) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.bootstrap), kgo.DefaultProduceTopic(l.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0), kgo.WithHooks(wire), kgo.ClientID(fmt.Sprintf("one-%d", seed)),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	value := payload(l.size)
	for range count {
		if err := client.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

// drain reads `count` records from the start and throws them away.
func (l load) drain() error {
	var wire requests
	options := []kgo.Opt{
		kgo.SeedBrokers(l.bootstrap), kgo.ConsumeTopics(l.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500 * time.Millisecond), kgo.DisableFetchCRCValidation(), kgo.WithHooks(&wire),
	}
	if l.fetchBytes > 0 {
		options = append(options, kgo.FetchMaxBytes(int32(l.fetchBytes)), kgo.FetchMaxPartitionBytes(int32(l.fetchBytes)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), loadDeadline)
	defer cancel()
	began := time.Now()
	for read := 0; read < l.count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d: %w", read, l.count, err)
		}
		read += fetches.NumRecords()
	}
	return report(map[string]any{"seconds": time.Since(began).Seconds(), "requests": wire.fetch.Load()})
}

// latency sends `rate` records a second round robin to the partitions, whatever the broker does
// meanwhile, and measures each from the moment when it was to be sent to its acknowledgement.
func (l load) latency(partitions, rate int) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.bootstrap), kgo.DefaultProduceTopic(l.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), loadDeadline)
	defer cancel()
	value := payload(l.size)
	// The first round opens connections and partitions; it is not measured.
	var warm sync.WaitGroup
	for p := range partitions {
		warm.Add(1)
		client.Produce(ctx, &kgo.Record{Partition: int32(p), Value: value}, func(*kgo.Record, error) { warm.Done() })
	}
	warm.Wait()
	taken := make([]time.Duration, l.count)
	var failed atomic.Int64
	began := time.Now()
	for i := range l.count {
		intended := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if wait := time.Until(intended); wait > 0 {
			time.Sleep(wait)
		}
		client.Produce(ctx, &kgo.Record{Partition: int32(i % partitions), Value: value}, func(_ *kgo.Record, err error) {
			taken[i] = time.Since(intended)
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d records failed", n, l.count)
	}
	slices.Sort(taken)
	at := func(share float64) float64 { return taken[int(share*float64(len(taken)-1))].Seconds() }
	return report(map[string]any{"seconds": time.Since(began).Seconds(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1)})
}

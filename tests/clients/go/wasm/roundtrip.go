package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// arriveWithin is how long after the last record was sent the last one may come out.
	arriveWithin = 60 * time.Second
	headBytes    = 16
)

type roundtrip struct {
	bootstrap, source, sink             string
	count, rate, size, partitions, warm int
}

// run sends records at a steady rate, whatever the broker does meanwhile, and times each from the moment when it
// was to be sent until a consumer of the sink has it. A value begins with the run and the record's number.
func (r roundtrip) run() (map[string]any, error) {
	if r.size < headBytes || r.warm >= r.count {
		return nil, errors.New("-size is too small, or -warm too large")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.count/r.rate)*time.Second+2*arriveWithin)
	defer cancel()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(r.bootstrap), kgo.DefaultProduceTopic(r.source), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
	)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	before, places, err := r.end(ctx, producer)
	if err != nil {
		return nil, err
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.bootstrap), kgo.ConsumePartitions(places))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()

	run := uint64(time.Now().UnixNano())
	began := time.Now().Add(100 * time.Millisecond)
	intended := func(i int) time.Time { return began.Add(time.Duration(i) * time.Second / time.Duration(r.rate)) }
	seen := sightings{run: run, taken: make([]time.Duration, r.count), intended: intended, all: make(chan struct{})}
	seen.left.Store(int64(r.count))
	reading, stop := context.WithCancel(ctx)
	read := make(chan error, 1)
	go func() { read <- seen.read(reading, consumer) }()
	acks, err := r.send(ctx, producer, run, intended)
	if err != nil {
		stop()
		return nil, err
	}
	select {
	case <-seen.all:
	case err := <-read:
		stop()
		return nil, err
	case <-time.After(arriveWithin):
	}
	// What comes twice comes late: the sink's end tells.
	after, _, err := r.end(ctx, producer)
	stop()
	if err == nil {
		if err = <-read; errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	figures := seen.figures(r.warm)
	figures["written"] = after - before
	figures["ack_p50"], figures["ack_p99"] = at(acks[r.warm:], 0.5), at(acks[r.warm:], 0.99)
	return figures, nil
}

// end is the sum of the sink's end offsets, and where to read on from there.
func (r roundtrip) end(ctx context.Context, client *kgo.Client) (int64, map[string]map[int32]kgo.Offset, error) {
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, r.sink)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return 0, nil, err
	}
	sum, places := int64(0), map[int32]kgo.Offset{}
	listed.Each(func(one kadm.ListedOffset) {
		sum += one.Offset
		places[one.Partition] = kgo.NewOffset().At(one.Offset)
	})
	return sum, map[string]map[int32]kgo.Offset{r.sink: places}, nil
}

// send gives the latencies of the acks.
func (r roundtrip) send(ctx context.Context, client *kgo.Client, run uint64, intended func(int) time.Time) ([]time.Duration, error) {
	acks := make([]time.Duration, r.count)
	var failed atomic.Int64
	for i := range r.count {
		if wait := time.Until(intended(i)); wait > 0 {
			time.Sleep(wait)
		}
		value := make([]byte, r.size)
		binary.LittleEndian.PutUint64(value, run)
		binary.LittleEndian.PutUint64(value[8:], uint64(i))
		client.Produce(ctx, &kgo.Record{Partition: int32(i % r.partitions), Value: value}, func(_ *kgo.Record, err error) {
			acks[i] = time.Since(intended(i))
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	if n := failed.Load(); n > 0 {
		return nil, fmt.Errorf("%d of %d records failed", n, r.count)
	}
	return acks, nil
}

// sightings is what came out of the sink. Only `read` writes; `figures` is for afterwards.
type sightings struct {
	run            uint64
	intended       func(int) time.Time
	taken          []time.Duration // 0: not seen
	left           atomic.Int64
	twice, foreign int
	all            chan struct{}
}

func (s *sightings) read(ctx context.Context, consumer *kgo.Client) error {
	for {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		now := time.Now()
		fetches.EachRecord(func(record *kgo.Record) { s.note(record.Value, now) })
	}
}

func (s *sightings) note(value []byte, now time.Time) {
	if len(value) < headBytes || binary.LittleEndian.Uint64(value) != s.run {
		s.foreign++
		return
	}
	number := binary.LittleEndian.Uint64(value[8:])
	switch {
	case number >= uint64(len(s.taken)):
		s.foreign++
	case s.taken[number] != 0:
		s.twice++
	default:
		s.taken[number] = now.Sub(s.intended(int(number)))
		if s.left.Add(-1) == 0 {
			close(s.all)
		}
	}
}

func (s *sightings) figures(warm int) map[string]any {
	timed := s.taken[warm:]
	missing := 0
	for _, taken := range s.taken {
		if taken == 0 {
			missing++
		}
	}
	return map[string]any{"missing": missing, "twice": s.twice, "foreign": s.foreign,
		"p50": at(timed, 0.5), "p99": at(timed, 0.99), "p999": at(timed, 0.999), "max": at(timed, 1)}
}

// at is a quantile in seconds.
func at(taken []time.Duration, share float64) float64 {
	sorted := slices.Sorted(slices.Values(taken))
	return sorted[int(share*float64(len(sorted)-1))].Seconds()
}

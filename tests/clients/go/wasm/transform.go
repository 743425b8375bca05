package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const transformWithin = 10 * time.Minute

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

type transform struct {
	bootstrap, source, sink, apply, group, codec string
	count, commitMs                              int
}

// run consumes `count` records in a group, produces what becomes of them, and commits what is acknowledged.
func (t transform) run() (map[string]any, error) {
	apply, known := map[string]func(*kgo.Record) (*kgo.Record, error){"identity": identity, "filter": delayed, "json": firstTwo}[t.apply]
	if !known {
		return nil, fmt.Errorf("unknown map %q", t.apply)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(t.bootstrap), kgo.ConsumerGroup(t.group), kgo.ConsumeTopics(t.source), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(t.sink),
		kgo.ProducerBatchCompression(codecs[t.codec]), kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), transformWithin)
	defer cancel()
	var failed atomic.Pointer[error]
	var start float64
	var began, committed time.Time
	out := 0
	for read := 0; read < t.count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d: %w", read, t.count, err)
		}
		if read == 0 {
			start, began, committed = cpuSeconds(), time.Now(), time.Now()
		}
		for _, record := range fetches.Records() {
			read++
			made, err := apply(record)
			if err != nil {
				return nil, err
			}
			if made == nil {
				continue
			}
			out++
			client.Produce(ctx, made, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
		}
		if read >= t.count || time.Since(committed) >= time.Duration(t.commitMs)*time.Millisecond {
			if err := client.Flush(ctx); err != nil {
				return nil, err
			}
			if err := failed.Load(); err != nil {
				return nil, *err
			}
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				return nil, err
			}
			committed = time.Now()
		}
	}
	return map[string]any{"out": out, "seconds": time.Since(began).Seconds(), "start_cpu_seconds": start, "cpu_seconds": cpuSeconds()}, nil
}

func identity(record *kgo.Record) (*kgo.Record, error) {
	return &kgo.Record{Key: record.Key, Value: record.Value, Headers: record.Headers, Timestamp: record.Timestamp}, nil
}

// delayed passes flights that depart more than an hour late, by destination.
func delayed(record *kgo.Record) (*kgo.Record, error) {
	var flight struct {
		Delay *float64 `json:"dep_delay"`
		Dest  string   `json:"dest"`
	}
	if err := json.Unmarshal(record.Value, &flight); err != nil {
		return nil, err
	}
	if flight.Delay == nil || *flight.Delay <= 60 {
		return nil, nil
	}
	return &kgo.Record{Key: []byte(flight.Dest), Value: record.Value, Headers: record.Headers, Timestamp: record.Timestamp}, nil
}

// firstTwo is what functions/examples/json does, for flat objects.
func firstTwo(record *kgo.Record) (*kgo.Record, error) {
	tokens := json.NewDecoder(bytes.NewReader(record.Value))
	if open, err := tokens.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.Join(err, errors.New("no object"))
	}
	text, sum := []byte{'{'}, 0.0
	for member := 0; tokens.More(); member++ {
		name, err := tokens.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := tokens.Decode(&raw); err != nil {
			return nil, err
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return nil, err
		}
		switch value := value.(type) {
		case float64:
			sum += value
		case string:
			sum += float64(len(value))
		}
		if member < 2 {
			quoted, _ := json.Marshal(name) // of a string
			text = append(append(append(append(text, quoted...), ':'), raw...), ',')
		}
	}
	text = append(strconv.AppendFloat(append(text, `"sum":`...), sum, 'f', -1, 64), '}')
	return &kgo.Record{Key: record.Key, Value: text, Headers: record.Headers, Timestamp: record.Timestamp}, nil
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	topic      = "franz-go"
	groupName  = "franz-go-group"
	partitions = 3
)

// Each check is one line on stdout, "ok NAME COUNT" or "FAIL NAME reason". Topics and groups are the
// program's own and are deleted at the end.
func checkAll(bootstrap string, records int) error {
	r := &run{bootstrap: bootstrap, records: records}
	r.check("admin.create", r.create)
	for code := range codecs {
		r.check("produce."+codecs[code].name, func(ctx context.Context) (int, error) { return r.produce(ctx, code) })
	}
	r.check("consume", r.consume)
	r.check("offsets-by-time", r.offsetsByTime)
	r.check("group.cooperative", r.group)
	r.check("admin.lag", r.lag)
	r.check("admin.configs", r.configs)
	r.check("admin.delete", r.remove)
	if r.failed {
		return errors.New("checks failed")
	}
	return nil
}

type run struct {
	bootstrap string
	records   int
	began     time.Time
	failed    bool
}

func (r *run) check(name string, body func(context.Context) (int, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if count, err := body(ctx); err != nil {
		r.failed = true
		fmt.Printf("FAIL %s %v\n", name, err)
	} else {
		fmt.Printf("ok %s %d\n", name, count)
	}
}

func (r *run) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(r.bootstrap))...)
}

func (r *run) admin() (*kadm.Client, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

func (r *run) total() int { return r.records * len(codecs) }

func value(codec, index int) string {
	return fmt.Sprintf("%s record %d of a value that repeats, repeats, repeats", codecs[codec].name, index)
}

func (r *run) create(ctx context.Context) (int, error) {
	admin, err := r.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	segment := "1048576"
	if _, err := admin.CreateTopic(ctx, partitions, 1, map[string]*string{"segment.bytes": &segment}, topic); err != nil {
		return 0, err
	}
	// A broker may answer from an image that is a moment old.
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		details, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return 0, err
		}
		if found := len(details[topic].Partitions); found == partitions {
			return partitions, details.Error()
		} else if time.Now().After(until) {
			return 0, fmt.Errorf("%d partitions, expected %d", found, partitions)
		}
	}
}

// Idempotent (franz-go's default), every record acknowledged.
func (r *run) produce(ctx context.Context, codec int) (int, error) {
	if r.began.IsZero() {
		r.began = time.Now()
	}
	client, err := r.client(kgo.ProducerBatchCompression(codecs[codec].codec), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	batch := make([]*kgo.Record, r.records)
	for i := range batch {
		batch[i] = &kgo.Record{
			Key:     []byte(strconv.Itoa(i)),
			Value:   []byte(value(codec, i)),
			Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(codecs[codec].name)}, {Key: "empty"}},
		}
	}
	return len(batch), client.ProduceSync(ctx, batch...).FirstErr()
}

// Reads all partitions from the start without a group and checks each record and its batch's codec.
func (r *run) consume(ctx context.Context) (int, error) {
	client, err := r.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	seen := make(map[string]bool, r.total())
	for len(seen) < r.total() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return len(seen), fmt.Errorf("after %d of %d: %w", len(seen), r.total(), err)
		}
		for _, record := range fetches.Records() {
			if err := checkRecord(record, seen); err != nil {
				return len(seen), err
			}
		}
	}
	return len(seen), nil
}

func checkRecord(record *kgo.Record, seen map[string]bool) error {
	codec := int(record.Attrs.CompressionType())
	if codec >= len(codecs) || len(record.Headers) != 2 || string(record.Headers[0].Value) != codecs[codec].name {
		return fmt.Errorf("offset %d: codec %d with headers %v", record.Offset, codec, record.Headers)
	}
	index, err := strconv.Atoi(string(record.Key))
	if err != nil || string(record.Value) != value(codec, index) {
		return fmt.Errorf("offset %d: wrong value %q", record.Offset, record.Value)
	}
	id := fmt.Sprintf("%d/%d", codec, index)
	if seen[id] {
		return fmt.Errorf("record %s came twice", id)
	}
	seen[id] = true
	return nil
}

func (r *run) offsetsByTime(ctx context.Context) (int, error) {
	admin, err := r.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	first, err := admin.ListOffsetsAfterMilli(ctx, r.began.UnixMilli()-1000, topic)
	if err != nil {
		return 0, err
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	var sum int64
	for partition, end := range ends[topic] {
		if from := first[topic][partition]; from.Offset != 0 || end.Err != nil || from.Err != nil {
			return 0, fmt.Errorf("partition %d: first offset after the start %d (%v), end %d (%v)",
				partition, from.Offset, from.Err, end.Offset, end.Err)
		}
		sum += end.Offset
	}
	if int(sum) != r.total() {
		return 0, fmt.Errorf("end offsets sum up to %d, expected %d", sum, r.total())
	}
	return int(sum), nil
}

// Two members with the cooperative balancer share the partitions and commit; the second joins while
// the first is reading.
func (r *run) group(ctx context.Context) (int, error) {
	var lock sync.Mutex
	seen := make(map[string]bool, r.total())
	member := func(ready chan<- struct{}) error {
		client, err := r.client(
			kgo.ConsumeTopics(topic), kgo.ConsumerGroup(groupName), kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.SessionTimeout(10*time.Second),
			kgo.FetchMaxPartitionBytes(4096), kgo.FetchMaxBytes(8192),
		)
		if err != nil {
			return err
		}
		defer client.Close()
		for {
			poll, cancel := context.WithTimeout(ctx, time.Second)
			fetches := client.PollFetches(poll)
			cancel()
			if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			records := fetches.Records()
			if len(records) > 0 {
				if err := client.CommitRecords(ctx, records...); err != nil {
					return err
				}
				if ready != nil {
					close(ready)
					ready = nil
				}
			}
			lock.Lock()
			for _, record := range records {
				seen[fmt.Sprintf("%d/%d", record.Partition, record.Offset)] = true
			}
			count := len(seen)
			lock.Unlock()
			if count >= r.total() {
				return nil
			}
			if ctx.Err() != nil {
				return fmt.Errorf("read %d of %d: %w", count, r.total(), ctx.Err())
			}
		}
	}
	results := make(chan error, 2)
	ready := make(chan struct{})
	go func() { results <- member(ready) }()
	select {
	case <-ready:
	case err := <-results:
		results <- err
	}
	go func() { results <- member(nil) }()
	err := errors.Join(<-results, <-results)
	return len(seen), err
}

func (r *run) lag(ctx context.Context) (int, error) {
	admin, err := r.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	lags, err := admin.Lag(ctx, groupName)
	if err != nil {
		return 0, err
	}
	if err := lags.Error(); err != nil {
		return 0, err
	}
	if total := lags[groupName].Lag.Total(); total != 0 {
		return 0, fmt.Errorf("lag %d after everything was committed", total)
	}
	return len(lags), nil
}

func (r *run) configs(ctx context.Context) (int, error) {
	admin, err := r.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	retention := "-1"
	changes := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &retention}}
	altered, err := admin.AlterTopicConfigs(ctx, changes, topic)
	if err != nil {
		return 0, err
	}
	for _, one := range altered {
		if one.Err != nil {
			return 0, one.Err
		}
	}
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, err
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		return 0, err
	}
	values := map[string]string{}
	for _, config := range resource.Configs {
		values[config.Key] = config.MaybeValue()
	}
	if values["retention.ms"] != "-1" || values["segment.bytes"] != "1048576" {
		return 0, fmt.Errorf("retention.ms is %q, segment.bytes %q", values["retention.ms"], values["segment.bytes"])
	}
	return len(values), nil
}

func (r *run) remove(ctx context.Context) (int, error) {
	admin, err := r.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	groups, err := admin.DeleteGroups(ctx, groupName)
	if err != nil {
		return 0, err
	}
	if err := groups.Error(); err != nil {
		return 0, err
	}
	topics, err := admin.DeleteTopics(ctx, topic)
	if err != nil {
		return 0, err
	}
	return len(groups) + len(topics), topics.Error()
}

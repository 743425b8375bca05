package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

func produceLines(bootstrap, topic, codec string) error {
	for _, one := range codecs {
		if one.name == codec {
			return produceWith(bootstrap, topic, one.codec)
		}
	}
	return fmt.Errorf("unknown codec %q", codec)
}

func produceWith(bootstrap, topic string, codec kgo.CompressionCodec) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec))
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		records = append(records, kgo.StringRecord(lines.Text()))
	}
	if err := lines.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return client.ProduceSync(ctx, records...).FirstErr()
}

func consumeLines(bootstrap, topic string, count int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for read := 0; read < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d: %w", read, count, err)
		}
		for _, record := range fetches.Records() {
			fmt.Fprintf(out, "%s %s\n", codecs[record.Attrs.CompressionType()].name, record.Value)
			read++
		}
	}
	return nil
}

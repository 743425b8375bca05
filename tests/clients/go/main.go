// A client of franz-go, which shares no code with librdkafka or the Java client.
//
//	franz-go check   -bootstrap HOST:PORT [-records N]
//	franz-go produce -bootstrap HOST:PORT -topic T -codec C    lines of stdin become values
//	franz-go consume -bootstrap HOST:PORT -topic T -count N    "CODEC VALUE" lines, all partitions
//
// and loads for figures, each of which prints one line of JSON:
//
//	franz-go load    -bootstrap HOST:PORT -topic T -count N -size BYTES -batch BYTES
//	franz-go singly  -bootstrap HOST:PORT -topic T -count N -size BYTES -clients N
//	franz-go drain   -bootstrap HOST:PORT -topic T -count N [-fetch BYTES]
//	franz-go latency -bootstrap HOST:PORT -topic T -count N -size BYTES -partitions N -rate PER_SECOND
//
// The exit code is 0 when all went well, else 1.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const deadline = 60 * time.Second

var codecs = []struct {
	name  string
	code  uint8
	codec kgo.CompressionCodec
}{
	{"none", 0, kgo.NoCompression()},
	{"gzip", 1, kgo.GzipCompression()},
	{"snappy", 2, kgo.SnappyCompression()},
	{"lz4", 3, kgo.Lz4Compression()},
	{"zstd", 4, kgo.ZstdCompression()},
}

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "127.0.0.1:9092", "address of the broker")
	records := flags.Int("records", 500, "check: records for each codec")
	topic := flags.String("topic", "", "produce, consume: the topic")
	codec := flags.String("codec", "none", "produce: compression of the batches")
	count := flags.Int("count", 0, "records to send or to wait for")
	size := flags.Int("size", 1024, "loads: bytes of a record's value")
	batch := flags.Int("batch", 256<<10, "load: most bytes of a batch")
	fetch := flags.Int("fetch", 0, "drain: most bytes of a fetch (default: the client's)")
	clients := flags.Int("clients", 4, "singly: connections")
	partitions := flags.Int("partitions", 1, "latency: partitions of the topic")
	rate := flags.Int("rate", 1000, "latency: records a second")
	if len(os.Args) > 2 {
		_ = flags.Parse(os.Args[2:]) // ExitOnError
	}
	l := load{bootstrap: *bootstrap, topic: *topic, count: *count, size: *size, batchBytes: *batch, fetchBytes: *fetch}
	var err error
	switch verb {
	case "check":
		err = checkAll(*bootstrap, *records)
	case "produce":
		err = produceLines(*bootstrap, *topic, *codec)
	case "consume":
		err = consumeLines(*bootstrap, *topic, *count)
	case "load":
		err = l.produceFull()
	case "singly":
		err = l.produceSingly(*clients)
	case "drain":
		err = l.drain()
	case "latency":
		err = l.latency(*partitions, *rate)
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "franz-go: %v\n", err)
		os.Exit(1)
	}
}

// A client of franz-go, which shares no code with librdkafka or the Java client.
//
//	franz-go check   -bootstrap HOST:PORT [-records N]
//	franz-go produce -bootstrap HOST:PORT -topic T -codec C    lines of stdin become values
//	franz-go consume -bootstrap HOST:PORT -topic T -count N    "CODEC VALUE" lines, all partitions
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
	count := flags.Int("count", 0, "consume: records to wait for")
	var err error
	switch verb {
	case "check", "produce", "consume":
		_ = flags.Parse(os.Args[2:]) // ExitOnError
	}
	switch verb {
	case "check":
		err = checkAll(*bootstrap, *records)
	case "produce":
		err = produceLines(*bootstrap, *topic, *codec)
	case "consume":
		err = consumeLines(*bootstrap, *topic, *count)
	default:
		err = fmt.Errorf("unknown verb %q: check, produce or consume", verb)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "franz-go: %v\n", err)
		os.Exit(1)
	}
}

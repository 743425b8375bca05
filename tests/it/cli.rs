//! The command line as scripts see it: stdout, stderr and exit codes of the real binary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_tests::{ChildBroker, tidemill_binary};

/// A broker, and the command line pointed at it.
struct Cli {
    broker: ChildBroker,
    _dir: TempDir,
}

/// What a command said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }
}

fn command(bootstrap: &str, line: &str) -> Command {
    let mut command = Command::new(tidemill_binary());
    command
        .args(line.split_whitespace())
        .env("TIDEMILL_BOOTSTRAP", bootstrap);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Cli {
    fn start() -> Cli {
        let dir = TempDir::new().expect("a directory");
        let settings = [
            "--set",
            "group.initial.rebalance.delay.ms=1",
            "--set",
            "auto.create.topics.enable=false",
        ];
        Cli {
            broker: ChildBroker::start(dir.path(), &settings, &[]),
            _dir: dir,
        }
    }

    fn run(&self, line: &str) -> Said {
        let output = command(&self.broker.kafka.to_string(), line).output();
        output.expect("the binary runs").into()
    }

    /// Runs with this text as stdin.
    fn feed(&self, line: &str, input: &str) -> Said {
        let mut command = command(&self.broker.kafka.to_string(), line);
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).expect("it reads all");
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }

    /// Runs what must succeed, and gives its stdout.
    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {}", said.stderr);
        said.stdout
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --format json"))).expect("JSON")
    }

    /// Runs what must fail with `code`, and gives its stderr.
    fn fails(&self, code: i32, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(
            (said.code, &*said.stdout),
            (code, ""),
            "{line}: {}",
            said.stderr
        );
        said.stderr
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn nobody_there_is_exit_3_with_cause_and_next() {
    let output = command("127.0.0.1:1", "topic list --admin 127.0.0.1:1").output();
    let said = Said::from(output.expect("the binary runs"));
    assert_eq!((said.code, &*said.stdout), (3, ""));
    let words: Vec<&str> = said
        .stderr
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        words,
        ["error", "cause", "cause", "next"],
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("127.0.0.1:1") && said.stderr.contains("tidemill serve"));
    for line in [
        "fn list",
        "fn describe f",
        "fn pause f",
        "fn delete f",
        "fn dlq f",
        "fn deploy f --stock filter --source a --sink b",
    ] {
        let output = command("127.0.0.1:1", &format!("{line} --admin 127.0.0.1:1")).output();
        let said = Said::from(output.expect("the binary runs"));
        assert_eq!((said.code, &*said.stdout), (3, ""), "{line}");
        for word in [
            "no broker answers at http://127.0.0.1:1",
            "tidemill serve",
            "--admin",
        ] {
            assert!(said.stderr.contains(word), "{line}: {}", said.stderr);
        }
    }
}

#[test]
fn the_admin_address_is_asked_when_nobody_answers() {
    let cli = Cli::start();
    let line = format!("topic list --admin {}", cli.broker.admin);
    let said = Said::from(
        command("127.0.0.1:1", &line)
            .output()
            .expect("the binary runs"),
    );
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("/readyz says 200"), "{}", said.stderr);
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for line in [
        "",
        "topik list",
        "topic create",
        "consume t --from yesterday",
        "topic create t --config novalue",
        "consume t --group g --partition 0",
        "fn list --admin https://127.0.0.1:9644",
        "fn list --admin http://127.0.0.1:9644/v1",
        "tier status --admin localhost",
    ] {
        let said = Said::from(
            command("127.0.0.1:1", line)
                .output()
                .expect("the binary runs"),
        );
        assert_eq!((said.code, &*said.stdout), (2, ""), "{line}");
        assert!(!said.stderr.is_empty());
    }
    for line in ["--help", "topic --help", "--version"] {
        let said = Said::from(
            command("127.0.0.1:1", line)
                .output()
                .expect("the binary runs"),
        );
        assert_eq!((said.code, &*said.stderr), (0, ""), "{line}");
    }
}

#[test]
fn mistyped_names_are_understood() {
    let cli = Cli::start();
    cli.ok("topic create flights --partitions 2");
    for line in [
        "topic describe fligths",
        "consume fligths",
        "topic delete flight",
        "topic trim flihts --to end",
    ] {
        let stderr = cli.fails(1, line);
        assert!(
            stderr.contains("next:  did you mean flights?"),
            "{line}: {stderr}"
        );
    }
    let stderr = cli.fails(1, "topic create x --config retention.m=1");
    assert!(stderr.contains("retention.ms"), "{stderr}");
    // Commands are named as this one was called, so that they can be pasted.
    let binary = tidemill_binary().display().to_string();
    let stderr = cli.fails(1, "topic describe nothinglikeit");
    assert!(
        stderr.contains(&format!("{binary} topic create nothinglikeit")),
        "{stderr}"
    );
    let stderr = cli.fails(1, "topic create flights");
    assert!(
        stderr.contains(&format!("next:  {binary} topic describe flights")),
        "{stderr}"
    );
}

#[test]
fn a_function_that_is_refused_has_a_cause_and_one_thing_to_do() {
    let cli = Cli::start();
    let at = |line: &str| {
        format!(
            "{line} --admin http://localhost:{}",
            cli.broker.admin.port()
        )
    };
    let filter = "--stock filter --config where=/x --config op=exists --sink late";
    cli.ok("topic create flights --partitions 1");
    cli.ok(&at(&format!("fn deploy delays --source flights {filter}")));
    for (line, cause, next) in [
        (
            "fn deploy f --source fligths --stock filter --sink b",
            "fligths",
            "did you mean flights?",
        ),
        (
            "fn deploy f --source flights --stock filter --sink b",
            "`where` is missing",
            "fn test",
        ),
        (
            "fn rollback delays",
            "no version before 1",
            "fn versions delays",
        ),
        (
            "fn rollback delays --to 9",
            "no version 9",
            "fn versions delays",
        ),
        (
            "fn rewind delay --to end",
            "no transform delay",
            "did you mean delays?",
        ),
        (
            "fn pause nothinglikeit",
            "no transform nothinglikeit",
            "fn list",
        ),
        (
            "fn resume nothinglikeit",
            "no transform nothinglikeit",
            "fn list",
        ),
        (
            "fn delete nothinglikeit",
            "no transform nothinglikeit",
            "fn list",
        ),
        (
            "fn delete --function 0123456789",
            "no function's id",
            "fn list --functions",
        ),
    ] {
        let stderr = cli.fails(1, &at(line));
        let told = lines(&stderr);
        let words: Vec<&str> = told
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(words, ["error", "cause", "next"], "{line}: {stderr}");
        assert!(told[0].contains("cannot"), "{line}: {stderr}");
        assert!(
            told[1].contains(cause) && told[2].contains(next),
            "{line}: {stderr}"
        );
    }
    let stdout = cli.ok(&at("fn rewind delays --to 99"));
    assert_eq!(stdout, "delays goes on at offset 0\n");
}

#[test]
fn topics_are_described_as_they_were_made_and_changed() {
    let cli = Cli::start();
    assert_eq!(
        cli.ok("topic create t --partitions 3 --config retention.ms=-1"),
        "created t with 3 partitions\n"
    );
    assert_eq!(
        lines(&cli.ok("topic list")),
        [
            "NAME  PARTITION_COUNT  REPLICATION_FACTOR",
            "t                   3                   1"
        ]
    );
    let described = cli.json("topic describe t");
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    let configs =
        json!([{"name": "retention.ms", "value": "-1", "source": "topic", "read_only": false}]);
    assert_eq!(described["configs"], configs);
    let altered = cli
        .json("topic alter t --config segment.bytes=1048576 --unset retention.ms --partitions 5");
    assert_eq!(
        (&altered["name"], &altered["partition_count"]),
        (&json!("t"), &json!(5))
    );
    let described = cli.json("topic describe t");
    assert_eq!(described["partition_count"], 5);
    assert_eq!(described["configs"][0]["name"], "segment.bytes");
    assert_eq!(described["configs"].as_array().map(Vec::len), Some(1));
    let all = cli.json("topic describe t --all");
    assert!(all["configs"].as_array().map(Vec::len) > Some(30));
    cli.fails(2, "topic alter t");
    let stderr = cli.fails(1, "topic alter t --partitions 4");
    assert!(stderr.contains("never taken away"), "{stderr}");
    let stderr = cli.fails(1, "topic alter t --config retention.m=1");
    assert!(
        stderr.contains("topic describe t --all lists the configs"),
        "{stderr}"
    );
    for count in ["0", "100000"] {
        let stderr = cli.fails(1, &format!("topic create u --partitions {count}"));
        assert!(
            stderr.contains("--partitions") && !stderr.contains("taken away"),
            "{stderr}"
        );
    }
    let yaml = cli.ok("topic describe t --format yaml");
    assert!(
        yaml.contains("\nname: t\n") && yaml.contains("    - 1\n"),
        "{yaml}"
    );
    cli.ok("topic create u --partitions 1");
    cli.fails(1, "topic delete u nothinglikeit");
    assert_eq!(
        cli.json("topic delete t u"),
        json!([{"name": "t"}, {"name": "u"}])
    );
    assert_eq!(cli.json("topic list"), json!([]));
}

#[test]
fn the_topic_that_holds_all_groups_offsets_is_not_deleted_by_a_slip() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 1");
    cli.ok("group seek g --topic t --to start");
    for line in [
        "topic delete t __consumer_offsets",
        "topic trim __consumer_offsets --to end",
    ] {
        let stderr = cli.fails(1, line);
        assert!(
            stderr.contains("internal topic") && stderr.contains("group delete GROUP"),
            "{line}: {stderr}"
        );
    }
    assert_eq!(cli.json("topic list").as_array().map(Vec::len), Some(1));
    assert_eq!(cli.json("group lag g")[0]["committed"], 0);
}

#[test]
fn a_broker_does_not_start_with_settings_that_cannot_be_meant() {
    let dir = TempDir::new().expect("a directory");
    for (line, variable, words) in [
        ("serve", ("TIDEMILL_DATA_DIR", ""), "TIDEMILL_DATA_DIR"),
        ("serve", ("TIDEMILL_LOG", "infoo"), "TIDEMILL_LOG=infoo"),
        (
            "serve --set num.partition=3",
            ("TIDEMILL_RACK", "r"),
            "(flag --set num.partition); did you mean num.partitions?",
        ),
        (
            "serve --listen nosuchhost.invalid:9099",
            ("TIDEMILL_RACK", "r"),
            "\"nosuchhost.invalid\" does not resolve",
        ),
        (
            "topic list --bootstrap foo",
            ("TIDEMILL_RACK", "r"),
            "HOST:PORT",
        ),
    ] {
        let (name, value) = variable;
        let mut command = command("127.0.0.1:1", line);
        let output = command.env(name, value).current_dir(dir.path()).output();
        let said = Said::from(output.expect("the binary runs"));
        assert_eq!(
            (said.code, &*said.stdout),
            (2, ""),
            "{line}: {}",
            said.stderr
        );
        assert!(said.stderr.contains(words), "{line}: {}", said.stderr);
        let left = std::fs::read_dir(dir.path()).expect("it is there").count();
        assert_eq!(left, 0, "{line}");
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 1");
    let input = concat!(
        r#"{"key":"a","value":{"x": 1},"timestamp":1000}"#,
        "\n",
        r#"{"key":null,"value":null,"timestamp":2000}"#,
        "\n",
        r#"{"key_base64":"//4=","value":"é\n","timestamp":3000,"headers":[{"key":"h","value":"1"},{"key":"h","value":null}]}"#,
        "\n",
    );
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let said = cli.feed(
            &format!("produce t --format-in ndjson --compression {codec}"),
            input,
        );
        assert_eq!((said.code, &*said.stdout), (0, ""), "{}", said.stderr);
        assert!(
            said.stderr.starts_with("3 records written to t"),
            "{}",
            said.stderr
        );
    }
    let printed = cli.ok("consume t --until-end --format json");
    let records: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(records.len(), 15);
    for (offset, three) in (0..).step_by(3).zip(records.chunks(3)) {
        assert_eq!(
            three[0],
            json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": 1000, "key": "a", "value": "{\"x\": 1}"})
        );
        assert_eq!(three[1]["key"], Value::Null);
        assert_eq!(three[2]["key_base64"], "//4=");
        assert_eq!(
            three[2]["headers"],
            json!([{"key": "h", "value": "1"}, {"key": "h", "value": null}])
        );
    }
    // What consume prints, produce reads.
    cli.ok("topic create copy --partitions 1");
    assert_eq!(
        cli.feed("produce copy --format-in ndjson", &printed).code,
        0
    );
    let copied = cli.ok("consume copy --until-end --format json");
    assert_eq!(copied.replace("\"copy\"", "\"t\""), printed);
}

#[test]
fn lines_have_keys_and_a_bad_line_is_named() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 3");
    let said = cli.feed("produce t --key-separator :", "a:1\nb:2:3\r\na:4\n");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let printed = cli.ok("consume t --until-end --key-separator =");
    let mut sorted = lines(&printed);
    sorted.sort_unstable();
    assert_eq!(sorted, ["a=1", "a=4", "b=2:3"]);
    let said = cli.feed("produce t --key-separator :", "c:5\nno separator\nc:6\n");
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("1 record written") && said.stderr.contains("error: line 2:"),
        "{}",
        said.stderr
    );
    let said = cli.feed("produce t --format-in ndjson", "{\"vlaue\":1}\n");
    assert!(said.code == 1 && said.stderr.contains("line 1:") && said.stderr.contains("vlaue"));
    let said = cli.feed("produce missing", "x\n");
    assert_eq!(said.code, 1);
    let stderr = cli.fails(1, "produce t --file /nonexistent");
    assert!(stderr.contains("cannot read /nonexistent"), "{stderr}");
    let stderr = cli.fails(1, "produce t --file /");
    assert!(stderr.contains("error: cannot read /\n"), "{stderr}");
    let said = cli.feed("produce t --partition 3", "x\n");
    assert!(
        said.code == 1 && said.stderr.contains("has no partition 3"),
        "{}",
        said.stderr
    );
}

#[test]
fn every_position_begins_where_it_says() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 1");
    let input: String = (0..10)
        .map(|n| format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", n * 1000))
        .collect();
    assert_eq!(cli.feed("produce t --format-in ndjson", &input).code, 0);
    for (from, expected) in [
        ("start", "0123456789"),
        ("end", ""),
        ("+7", "789"),
        ("-2", "89"),
        ("-99", "0123456789"),
        ("4", "456789"),
        ("@8000", "89"),
        ("@1970-01-01T00:00:07.5Z", "89"),
        ("@1970-01-02", ""),
    ] {
        let printed = cli.ok(&format!("consume t --from {from} --until-end"));
        assert_eq!(lines(&printed).concat(), expected, "{from}");
    }
    let printed = cli.ok("consume t --from 3 --count 2");
    assert_eq!(lines(&printed), ["3", "4"]);
    for line in [
        "consume t --from 99 --count 1",
        "consume t --from 99 --until-end",
        "group seek g --topic t --to 99",
    ] {
        let stderr = cli.fails(1, line);
        assert!(
            stderr.contains("OFFSET_OUT_OF_RANGE") && stderr.contains("an offset from 0 to 10"),
            "{line}: {stderr}"
        );
    }
    assert_eq!(cli.ok("consume t --from 10 --until-end"), "");
    assert_eq!(
        cli.json("topic trim t --to -4"),
        json!([{"partition": 0, "start_offset": 6}])
    );
    // Those records are gone already.
    cli.ok("topic trim t --to 3 --partition 0");
    assert_eq!(lines(&cli.ok("consume t --until-end")).concat(), "6789");
}

#[test]
fn a_group_goes_on_where_it_stopped_and_can_be_sought() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 2");
    let input: String = (0..100).map(|n| format!("k{n}:{n}\n")).collect();
    assert_eq!(cli.feed("produce t --key-separator :", &input).code, 0);
    let first = cli.ok("consume t --group g --from start --count 30");
    let second = cli.ok("consume t --group g --until-end");
    let mut all: Vec<u32> = first
        .lines()
        .chain(second.lines())
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!((first.lines().count(), all.len()), (30, 100));
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    let listed = cli.json("group list");
    assert_eq!(
        (&listed[0]["group"], &listed[0]["state"]),
        (&json!("g"), &json!("Empty"))
    );
    let lag = cli.json("group lag g");
    assert_eq!(lag.as_array().map(Vec::len), Some(2));
    assert!(
        lag.as_array().unwrap().iter().all(|line| line["lag"] == 0),
        "{lag}"
    );
    let said = cli.run("group seek g --topic t --to -5");
    assert_eq!((said.code, &*said.stderr), (0, ""));
    let said = cli.run("group seek gh --topic t --to end");
    assert_eq!(
        (said.code, &*said.stderr),
        (0, "group gh did not exist, it is new\n")
    );
    // What was asked for is not what may have been meant.
    let stderr = cli.fails(1, "group lag hh gh");
    assert!(!stderr.contains("did you mean"), "{stderr}");
    assert_eq!(cli.json("group delete gh"), json!([{"group": "gh"}]));
    let described = cli.json("group describe g");
    assert_eq!(
        (&described["lag"], &described["member_count"]),
        (&json!(10), &json!(0))
    );
    let lag = cli.json("group lag");
    assert!(
        lag.as_array().unwrap().iter().all(|line| line["lag"] == 5),
        "{lag}"
    );
    assert_eq!(
        cli.ok("consume t --group g --until-end").lines().count(),
        10
    );
    let stderr = cli.fails(1, "group describe gg");
    assert!(stderr.contains("did you mean g?"), "{stderr}");
    cli.ok("group delete g");
    assert_eq!(cli.json("group list"), json!([]));
}

#[test]
fn a_reader_that_leaves_and_a_signal_end_a_command_well() {
    let cli = Cli::start();
    cli.ok("topic create t --partitions 1");
    let input: String = (0..50_000).map(|n| format!("value number {n}\n")).collect();
    assert_eq!(cli.feed("produce t", &input).code, 0);
    let bootstrap = cli.broker.kafka.to_string();
    let mut child = command(&bootstrap, "consume t --from start")
        .spawn()
        .expect("the binary runs");
    let mut first = String::new();
    let mut stdout = BufReader::with_capacity(64, child.stdout.take().expect("stdout is piped"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    let said = Said::from(child.wait_with_output().expect("it ends"));
    assert_eq!(
        (&*first, said.code, &*said.stderr),
        ("value number 0\n", 0, "")
    );

    let mut follow = command(&bootstrap, "consume t --from -1 --group follow").spawn();
    if let Ok(child) = &mut follow {
        // Refused: with a group only start and end make sense.
        assert_eq!(child.wait().expect("it ends").code(), Some(2));
    }
    let mut child = command(&bootstrap, "consume t --from -1")
        .spawn()
        .expect("the binary runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    first.clear();
    stdout.read_line(&mut first).expect("a line");
    assert_eq!(first, "value number 49999\n");
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::INT).expect("it still runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_demo_counts_up_and_leaves_nothing_behind() {
    let dir = TempDir::new().expect("a directory");
    let mut demo = command("127.0.0.1:1", "demo");
    let said = Said::from(
        demo.env("TMPDIR", dir.path())
            .output()
            .expect("the binary runs"),
    );
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    let steps: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.get(..9))
        .map(str::trim)
        .collect();
    let expected = [
        "start", "topic", "produce", "kill -9", "recover", "produce", "read", "function", "delays",
        "tier", "read", "metrics", "stop",
    ];
    assert_eq!(steps, expected, "{}", said.stdout);
    assert!(
        said.stdout
            .contains("5000 records read back, each once, in order for each of 15 keys")
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("it is there").count(),
        0
    );
}

#[test]
fn a_kept_demo_can_be_used_and_stopped() {
    let dir = TempDir::new().expect("a directory");
    let mut demo = command("127.0.0.1:1", "demo --keep");
    let said = Said::from(
        demo.env("TMPDIR", dir.path())
            .output()
            .expect("the binary runs"),
    );
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    let after = |text: &str| {
        let at = said.stdout.find(text).expect("the demo says how to use it") + text.len();
        said.stdout[at..]
            .split_whitespace()
            .next()
            .expect("a word")
            .to_owned()
    };
    let stop = said
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("Stop it with: "));
    let stop = stop.expect("the demo says how to stop it");
    let consume = "consume flights --until-end";
    let used = command(&after("--bootstrap "), consume).output();
    let stopped = Command::new("sh").args(["-c", stop]).status();
    let used = Said::from(used.expect("the binary runs"));
    assert_eq!(
        (used.code, used.stdout.lines().count()),
        (0, 5000),
        "{}",
        used.stderr
    );
    assert!(stopped.expect("sh runs").success(), "{stop}");
    let left = std::fs::read_dir(dir.path()).expect("it is there").count();
    assert_eq!(left, 0, "{stop}");
}

/// Asks again and again until it is so.
fn until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + tidemill_tests::LIMIT;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn bench_moves_what_it_says_it_moved() {
    let cli = Cli::start();
    let pid = cli.broker.pid();
    let produced = cli.json(&format!(
        "bench produce --topic b --partitions 2 --connections 2 --record-size 100 --batch-records 50 \
         --records 10000 --broker-pid {pid}"
    ));
    assert_eq!(
        (&produced["records"], &produced["requests"]),
        (&json!(10_000), &json!(200))
    );
    assert!(
        produced["broker"]["cpu_us_per_request"].as_f64() > Some(0.0),
        "{produced}"
    );
    assert!(produced["latency_us"]["p50"].as_u64() <= produced["latency_us"]["max"].as_u64());
    assert_eq!(cli.json("topic describe b")["records"], 10_000);
    let consumed = cli.json("bench consume --topic b --records 10000 --connections 2 --fan-out 2");
    assert_eq!(consumed["records"], 20_000);
    assert_eq!(
        consumed["bytes"].as_u64(),
        produced["bytes"].as_u64().map(|bytes| 2 * bytes)
    );
    let rated = cli.json("bench produce --topic b --batch-records 1 --records 100 --rate 1000");
    let seconds = rated["seconds"].as_f64().expect("a number");
    assert!((0.09..5.0).contains(&seconds), "{seconds}");
    let sent = cli.json("bench produce --topic b --batch-records 10 --records 100 --acks 0");
    assert_eq!(sent["records"], 100);
    // Nobody waited until they are durable, and so visible.
    until(|| cli.json("topic describe b")["records"] == 10_200);
    let produced = cli.run(
        "bench produce --topic b --partitions 5 --batch-records 10 --records 1k --connections 2",
    );
    assert!(
        produced.stderr.contains("--partitions has no effect"),
        "{}",
        produced.stderr
    );
    // 20 ms of the rate are a batch.
    let rated = cli.json("bench produce --topic rated --records 100 --rate 1000");
    assert_eq!(rated["requests"], 5);
    let produced = cli.json("bench produce --topic exact --batch-records 10 --records 25");
    assert_eq!(
        (&produced["records"], &produced["requests"]),
        (&json!(25), &json!(3))
    );
    assert_eq!(cli.json("topic describe exact")["records"], 25);
    let consumed = cli.run("bench consume --topic exact --records 1M");
    assert_eq!(
        (consumed.code, &*consumed.stderr),
        (0, "the log ended after 25 records of 1000000 records\n")
    );
    cli.fails(2, "bench produce --in-flight 0");
    cli.fails(1, "bench consume --topic missing");
    let stderr = cli.fails(
        1,
        "bench produce --topic b --record-size 2Mi --batch-records 1 --records 1",
    );
    assert!(
        stderr.contains("(MESSAGE_TOO_LARGE)") && stderr.contains("next:"),
        "{stderr}"
    );
}

#[test]
fn an_endpoint_without_a_scheme_is_told_before_the_store_is_asked() {
    let flags = "tier verify --tier-url s3://bucket/x --tier-endpoint localhost:1";
    let said = Said::from(command("127.0.0.1:1", flags).output().expect("it runs"));
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("http://HOST:PORT"), "{}", said.stderr);
}

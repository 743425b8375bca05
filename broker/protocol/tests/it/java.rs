//! Every message at every version against Kafka's own classes (`tests/oracle/Oracle.java`): the same
//! bytes, the same defaults, and the same opinion on which fields an older version may drop.
//!
//! Needs a JDK and Kafka's jars, so it runs on demand only:
//!
//! ```text
//! mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.2.0
//! KAFKA_CLASSPATH=kafka-clients-4.2.0.jar:slf4j-api-1.7.36.jar:… \
//!     cargo test --release -p tidemill-protocol java -- --ignored --nocapture
//! ```
//!
//! With `kafka-group-coordinator-4.2.0.jar` on the path the layouts of `__consumer_offsets` are
//! compared too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use tidemill_protocol::{Message, for_each_api};

use crate::arbitrary::{Arbitrary, Gen, for_each_record, versions_and_seeds};

/// A question to the oracle, and what we would answer; `None` if we refuse to encode.
struct Case {
    question: String,
    ours: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

fn cases<M: Message + Arbitrary>(package: &str, cases: &mut Vec<Case>) {
    let class = match M::NAME {
        name if name.ends_with("Request") || name.ends_with("Response") => format!("{name}Data"),
        name => name.to_owned(),
    };
    let mut add = |gen_: &mut Gen, from: i16, to: i16| {
        let message = M::arbitrary(gen_, from);
        let bytes = hex(&message.encode_to_bytes(from).unwrap());
        let ours = message.encode_to_bytes(to).ok().map(|bytes| hex(&bytes));
        cases.push(Case {
            question: format!("{package}.{class} {from} {to} {bytes}"),
            ours,
        });
    };
    for (version, seed) in versions_and_seeds::<M>(20) {
        add(&mut Gen::new(seed), version, version);
    }
    for (from, seed) in versions_and_seeds::<M>(10) {
        for to in M::MIN_VERSION..=M::MAX_VERSION {
            add(&mut Gen::sparse(seed), from, to);
        }
    }
}

fn all_cases() -> Vec<Case> {
    let mut all = Vec::new();
    macro_rules! apis {
        ($(($module:ident, $request:ident, $response:ident))*) => {
            $(
                let package = "org.apache.kafka.common.message";
                cases::<tidemill_protocol::$module::$request>(package, &mut all);
                cases::<tidemill_protocol::$module::$response>(package, &mut all);
            )*
        };
    }
    for_each_api!(apis);
    macro_rules! records {
        ($(($module:ident, $record:ident))*) => {
            $(
                let package = match stringify!($module) {
                    "consumer_offsets" => "org.apache.kafka.coordinator.group.generated",
                    _ => "org.apache.kafka.common.message",
                };
                cases::<tidemill_protocol::$module::$record>(package, &mut all);
            )*
        };
    }
    for_each_record!(records);
    all
}

#[test]
#[ignore = "needs a JDK and Kafka's jars in KAFKA_CLASSPATH"]
#[allow(
    clippy::disallowed_methods,
    reason = "a child's pipes are fed from a thread of their own"
)]
fn kafka_reads_and_writes_the_same() {
    let classpath = std::env::var("KAFKA_CLASSPATH").expect("KAFKA_CLASSPATH names Kafka's jars");
    let cases = all_cases();
    let mut java = Command::new("java")
        .args(["-cp", &classpath])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/oracle/Oracle.java"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("java starts");
    let questions: String = cases
        .iter()
        .map(|case| format!("{}\n", case.question))
        .collect();
    let mut stdin = java.stdin.take().expect("stdin is piped");
    let writer = thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let stdout = BufReader::new(java.stdout.take().expect("stdout is piped"));
    let answers: Vec<String> = stdout
        .lines()
        .collect::<Result<_, _>>()
        .expect("answers are text");
    writer
        .join()
        .expect("the writer does not panic")
        .expect("the oracle reads to the end");
    assert!(java.wait().expect("java ends").success());
    assert_eq!(answers.len(), cases.len());
    judge(&cases, &answers);
}

#[allow(clippy::print_stdout, reason = "runs by hand, for its figures")]
fn judge(cases: &[Case], answers: &[String]) {
    let (mut equal, mut refused) = (0, 0);
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    let mut differing = Vec::new();
    for (case, theirs) in cases.iter().zip(answers) {
        match &case.ours {
            _ if theirs == "-" => {
                let words: Vec<&str> = case.question.split(' ').take(3).collect();
                *unknown.entry(words.join(" ")).or_default() += 1;
            }
            Some(ours) if ours == theirs => equal += 1,
            None if theirs.starts_with('!') => refused += 1,
            ours => {
                let ours = ours.as_deref().unwrap_or("refused");
                differing.push(format!(
                    "{}\n ours   {ours}\n theirs {theirs}",
                    case.question
                ));
            }
        }
    }
    let skipped: usize = unknown.values().sum();
    println!("{equal} equal, {refused} refused by both, {skipped} that Kafka 4.2 does not know:");
    for question in unknown.keys() {
        println!("  {question}");
    }
    assert!(
        differing.is_empty(),
        "{} differ: {:#?}",
        differing.len(),
        &differing[..1]
    );
    assert!(
        equal > 10_000 && refused > 100,
        "the oracle was asked too little"
    );
}

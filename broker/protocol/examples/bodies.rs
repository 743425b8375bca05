//! Writes generated request bodies of every API in every version, for `tests/show/hostile`.
//!
//! ```text
//! bodies SEED COUNT NAME,…
//! ```
//!
//! writes COUNT bodies of each version to stdout, each as key (i16), version (i16), length (u32), bytes. Half of
//! the strings are one of the names, half of the ids the 16 bytes `hostile-topic-id`, for the reader to replace.

use std::io::{BufWriter, Write};

use arbitrary::{Arbitrary, Gen};
use tidemill_protocol::{Request, Str, for_each_api};
use uuid::Uuid;

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the tests use the rest of it"
)]
#[path = "../tests/it/arbitrary.rs"]
mod arbitrary;

/// What stands where a topic's id will.
const ID: [u8; 16] = *b"hostile-topic-id";

struct Wanted {
    seed: u64,
    count: u64,
    names: Vec<Str>,
}

fn write<R: Request + Arbitrary>(wanted: &Wanted, out: &mut impl Write) -> std::io::Result<()> {
    for version in R::MIN_VERSION..=R::MAX_VERSION {
        for number in 0..wanted.count {
            let seed = (wanted.seed << 40) + ((version as u64) << 32) + number;
            // Full messages find the edges, sparse ones get further into the broker.
            let mut values = match number % 3 {
                0 => Gen::new(seed),
                _ => Gen::sparse(seed),
            };
            values.names = wanted.names.clone();
            values.ids = vec![Uuid::from_bytes(ID)];
            let body = R::arbitrary(&mut values, version).encode_to_bytes(version);
            let body = body.expect("the values fit the version");
            out.write_all(&R::KEY.0.to_be_bytes())?;
            out.write_all(&version.to_be_bytes())?;
            out.write_all(&(body.len() as u32).to_be_bytes())?;
            out.write_all(&body)?;
        }
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, count, names] = &arguments[..] else {
        panic!("usage: bodies SEED COUNT NAME,…");
    };
    let wanted = Wanted {
        seed: seed.parse().expect("a seed"),
        count: count.parse().expect("a count"),
        names: names.split(',').map(Str::from).collect(),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    macro_rules! apis {
        ($(($module:ident, $request:ident, $response:ident))*) => {
            $(write::<tidemill_protocol::$module::$request>(&wanted, &mut out)?;)*
        };
    }
    for_each_api!(apis);
    out.flush()
}

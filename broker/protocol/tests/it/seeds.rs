//! Writes the seeds of the fuzz target `frames`: for each message one body at its highest version.
//!
//! ```text
//! cargo test --release -p tidemill-protocol seeds -- --ignored
//! ```

use std::path::Path;

use tidemill_protocol::{Message, Request, for_each_api};

use crate::arbitrary::{Arbitrary, Gen};

/// The shortest of some generated bodies of more than `bytes_min` bytes.
fn body<M: Message + Arbitrary>(bytes_min: usize) -> Vec<u8> {
    let bodies = (0..200).map(|seed| {
        let message = M::arbitrary(&mut Gen::sparse(seed), M::MAX_VERSION);
        message.encode_to_bytes(M::MAX_VERSION).unwrap().to_vec()
    });
    bodies
        .filter(|body| body.len() > bytes_min)
        .min_by_key(Vec::len)
        .unwrap_or_default()
}

fn seeds<R: Request<Response: Arbitrary> + Arbitrary>() -> [(String, Vec<u8>); 2] {
    let (key, version) = (R::KEY.0 as u8, R::MAX_VERSION as u8);
    let request = [vec![key, version], body::<R>(100)].concat();
    let response = [vec![key, version + 128], body::<R::Response>(150)].concat();
    let name = |kind| format!("{:03}_{kind}", R::KEY.0);
    [(name("request"), request), (name("response"), response)]
}

#[test]
#[ignore = "writes into the source tree"]
#[allow(
    clippy::disallowed_methods,
    reason = "a tool that runs on demand, not behind the seams"
)]
fn written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/frames");
    std::fs::create_dir_all(&folder).unwrap();
    macro_rules! apis {
        ($(($module:ident, $request:ident, $response:ident))*) => {
            $(
                for (name, seed) in seeds::<tidemill_protocol::$module::$request>() {
                    std::fs::write(folder.join(name), seed).unwrap();
                }
            )*
        };
    }
    for_each_api!(apis);
}

//! decode(encode(x)) = x for every message at every version.

use tidemill_protocol::{Message, for_each_api};

use crate::arbitrary::{Arbitrary, Gen, for_each_record, versions_and_seeds};

fn round_trips<M: Message + Arbitrary + PartialEq + std::fmt::Debug>() {
    for (version, seed) in versions_and_seeds::<M>(40) {
        let message = M::arbitrary(&mut Gen::new(seed), version);
        let bytes = message.encode_to_bytes(version).unwrap();
        let decoded = M::decode_exact(bytes, version).unwrap();
        assert_eq!(decoded, message, "{} v{version} seed {seed}", M::NAME);
    }
}

macro_rules! apis {
    ($(($module:ident, $request:ident, $response:ident))*) => {
        $(
            #[test]
            fn $module() {
                round_trips::<tidemill_protocol::$module::$request>();
                round_trips::<tidemill_protocol::$module::$response>();
            }
        )*
    };
}

for_each_api!(apis);

macro_rules! records {
    ($(($module:ident, $record:ident))*) => {
        #[test]
        fn records() {
            $(round_trips::<tidemill_protocol::$module::$record>();)*
        }
    };
}

for_each_record!(records);

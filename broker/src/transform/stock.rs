//! The functions that are built in, from `functions/dist`.

/// A built-in function.
pub(crate) struct Stock {
    pub(crate) id: &'static str,
    /// What it does, in a line.
    pub(crate) summary: &'static str,
    pub(crate) wasm: &'static [u8],
}

/// All of them, by id.
pub(crate) fn stock() -> &'static [Stock] {
    &[
        Stock {
            id: "filter",
            summary: "keeps the records whose JSON value meets a condition: where=/dep_delay op=gt value=60",
            wasm: include_bytes!("../../../functions/dist/filter.wasm"),
        },
        Stock {
            id: "project",
            summary: "keeps or removes fields of a JSON value: keep=/a,/b or remove=/c",
            wasm: include_bytes!("../../../functions/dist/project.wasm"),
        },
        Stock {
            id: "redact",
            summary: "masks or removes fields of a JSON value: fields=/card,/name with=***",
            wasm: include_bytes!("../../../functions/dist/redact.wasm"),
        },
        Stock {
            id: "route",
            summary: "chooses the sink by a field of a JSON value: by=/carrier to.UA=united default=rest",
            wasm: include_bytes!("../../../functions/dist/route.wasm"),
        },
    ]
}

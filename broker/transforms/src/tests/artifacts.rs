//! What is refused before it is deployed, and what is kept of what is not.

use super::{DELAYS, IDENTITY, Rig, records};
use crate::{ArtifactError, Carrier, Limits, carrier};

/// A module with everything that ABI 1 wants, but for what a test takes away or adds.
fn module(change: impl Fn(&str) -> Option<String>, more: &str) -> Vec<u8> {
    let parts = [
        "(memory (export \"memory\") 1)",
        "(func (export \"tidemill_abi_1\"))",
        "(func (export \"buf\") (param i32) (result i32) i32.const 8)",
        "(func (export \"init\") (param i32) (result i64) i64.const 0)",
        "(func (export \"process\") (param i32) (result i64) i64.const 0)",
    ];
    let parts: String = parts.iter().filter_map(|part| change(part)).collect();
    wat::parse_str(format!("(module {more} {parts})")).expect("it is WebAssembly")
}

fn whole(part: &str) -> Option<String> {
    Some(part.to_owned())
}

fn refusal(artifact: &[u8]) -> String {
    let rig = Rig::new();
    let refused = rig.host.compile(artifact).expect_err("it is refused");
    refused.to_string()
}

#[test]
fn the_carrier_is_told_by_the_first_bytes() {
    assert_eq!(carrier(IDENTITY).unwrap(), Carrier::CoreModule);
    assert_eq!(carrier(b"\0asm\x0d\0\x01\0").unwrap(), Carrier::Component);
    assert!(matches!(carrier(b""), Err(ArtifactError::NotWasm(_))));
    assert!(matches!(
        carrier(b"\x7fELF\x02\x01\x01"),
        Err(ArtifactError::NotWasm(_))
    ));
    assert!(matches!(
        carrier(b"\0asm\x09\0\0\0"),
        Err(ArtifactError::UnknownVersion(_))
    ));
    assert!(matches!(
        carrier(b"\0asm\x01"),
        Err(ArtifactError::UnknownVersion(_))
    ));
}

#[test]
fn every_export_of_the_abi_is_asked_for_by_name() {
    assert!(Rig::new().host.compile(&module(whole, "")).is_ok());
    for name in ["memory", "tidemill_abi_1", "buf", "init", "process"] {
        let quoted = format!("\"{name}\"");
        let missing = module(
            |part| (!part.contains(&quoted)).then(|| part.to_owned()),
            "",
        );
        let told = refusal(&missing);
        assert!(
            told.contains(&format!("does not export `{name}`")),
            "{told}"
        );
    }
    let wrong = module(
        |part| Some(part.replace("(result i64) i64.const 0", "(result i32) i32.const 0")),
        "",
    );
    assert_eq!(
        refusal(&wrong),
        "the artifact's export `init` is not a function (i32) -> i64"
    );
    let wide = module(
        |part| Some(part.replace("(export \"memory\") 1", "(export \"memory\") i64 1")),
        "",
    );
    assert!(refusal(&wide).contains("memory") || refusal(&wide).contains("not valid"));
}

#[test]
fn imports_that_nobody_offers_are_refused_by_name() {
    let wasi = module(
        whole,
        "(import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))",
    );
    assert!(refusal(&wasi).starts_with("the artifact imports `wasi_snapshot_preview1.fd_write`"));
    let other_log = module(whole, "(import \"tidemill\" \"log\" (func (param i64)))");
    assert!(refusal(&other_log).starts_with("the artifact imports `tidemill.log`"));
    let log = module(
        whole,
        "(import \"tidemill\" \"log\" (func (param i32 i32 i32)))",
    );
    assert!(Rig::new().host.compile(&log).is_ok());
}

#[test]
fn a_module_that_does_not_validate_is_refused() {
    let mut cut = IDENTITY.to_vec();
    cut.truncate(IDENTITY.len() / 2);
    assert_eq!(refusal(&cut), "the artifact is not valid");
    let mut flipped = DELAYS.to_vec();
    let at = flipped.len() / 2;
    flipped[at..at + 64].fill(0xff);
    assert_eq!(refusal(&flipped), "the artifact is not valid");
}

#[test]
fn compiled_code_is_loaded_from_a_file() {
    let rig = Rig::new();
    let code = rig.host.compile(IDENTITY).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.cwasm");
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .unwrap(),
        &code,
    )
    .unwrap();
    // SAFETY: it is what `compile` gave.
    let loaded = unsafe { rig.host.load(Carrier::CoreModule, &path) }.unwrap();
    assert_eq!(format!("{loaded:?}"), "Function(module)");
    assert_eq!(rig.host.compatibility(), Rig::new().host.compatibility());
    let mut identity = rig.runner(IDENTITY, &[], Limits::default());
    assert_eq!(identity.all(&records(3, &[])).0, [0, 1, 2]);
}

#[test]
fn code_that_takes_too_much_to_compile_is_refused() {
    let locals = |count: usize| format!("(local {})", "i32 ".repeat(count));
    let function = |inside: &str| format!("(func {inside})");
    let loops = |depth: usize| format!("{}{}", "loop ".repeat(depth), "end ".repeat(depth));
    let values = format!("(func $wide (param {}) unreachable)", "i64 ".repeat(999));
    for (more, said) in [
        (function("").repeat(70_000), "more than 50000 functions"),
        (
            function(&"nop ".repeat(1 << 20)),
            "function 0 has 1048578 bytes; 1048576",
        ),
        (
            function(&locals(49_000)),
            "function 0 has 49000 locals; 10000",
        ),
        (
            function("") + &function(&format!("{} {}", locals(5000), "block end ".repeat(5000))),
            "function 1 has 5000 locals and 5000 branches; 5000000",
        ),
        (
            // 1000 loops one in the other; parameters are locals too.
            function(&format!("(param {}) {}", "i32 ".repeat(1000), loops(1000))),
            "function 0 has 1000 locals and 500500 loops",
        ),
        (
            format!(
                "{values} {}",
                function(&format!("unreachable {}", "call $wide ".repeat(600)))
            ),
            "function 1 has calls and blocks with 600000 parameters and results; 200000",
        ),
    ] {
        let told = refusal(&module(whole, &more));
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn large_code_is_compiled_where_its_parts_are_of_common_size() {
    let block = "block local.get 0 br_if 0 end ";
    let function = format!(
        "(func (param i32) (local i64 i64 i64) {})",
        block.repeat(500)
    );
    assert!(
        Rig::new()
            .host
            .compile(&module(whole, &function.repeat(50)))
            .is_ok()
    );
}

#[test]
fn code_is_measured_behind_a_body_that_is_malformed() {
    let locals = format!("(func (local {}))", "i32 ".repeat(49_000));
    let mut artifact = module(
        whole,
        &format!("(func i64.const 0x123456789 drop) {locals}"),
    );
    let wanted = [0x42, 0x89, 0xcf, 0x95, 0x9a, 0x12];
    let at = artifact.windows(6).position(|bytes| bytes == wanted);
    artifact[at.expect("the constant is there")] = 0xff;
    assert!(refusal(&artifact).contains("function 1 has 49000 locals"));
}

#[test]
fn modules_in_a_component_are_measured_together() {
    let inner = format!("(core module {})", "(func)".repeat(40_000));
    let component = wat::parse_str(format!("(component {inner} {inner})")).unwrap();
    assert_eq!(
        refusal(&component),
        "the artifact has more than 50000 functions"
    );
}

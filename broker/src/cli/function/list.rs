//! `tidemill fn list`.

use clap::Args;

use super::super::api::Api;
use super::super::exit::Failure;
use super::super::output::{OutputArgs, Table, human_bytes, printable};
use super::wire::{FUNCTIONS, STOCK, StockFunction, TRANSFORMS, short_id};
use crate::timestamp::format_timestamp;
use crate::transform::{FunctionStatus, TransformStatus};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The artifacts that were uploaded, instead of what runs.
    #[arg(long)]
    functions: bool,
    /// The functions that are built in, for deploy --stock.
    #[arg(long, conflicts_with = "functions")]
    stock: bool,
}

pub(super) async fn run(args: &ListArgs, api: Api<'_>, output: OutputArgs) -> Result<(), Failure> {
    if args.functions {
        let functions: Vec<FunctionStatus> = api.get(FUNCTIONS).await?;
        return output.print(&functions, |functions| functions_text(functions));
    }
    if args.stock {
        let functions: Vec<StockFunction> = api.get(STOCK).await?;
        return output.print(&functions, |functions| stock_text(functions));
    }
    let transforms: Vec<TransformStatus> = api.get(TRANSFORMS).await?;
    output.print(&transforms, |transforms| transforms_text(transforms))
}

fn transforms_text(transforms: &[TransformStatus]) -> String {
    let mut table = Table::new([
        "NAME",
        "STATE",
        "VERSION",
        "SOURCE",
        "SINKS",
        "LAG",
        "RECORDS_IN",
        "RECORDS_OUT",
        "DEAD_LETTERS",
        "LAST_ERROR",
    ]);
    for transform in transforms {
        table.row([
            transform.name.clone(),
            transform.state.clone(),
            transform.version.to_string(),
            transform.source.clone(),
            transform.sinks.join(","),
            transform.lag.to_string(),
            transform.records_in.to_string(),
            transform.records_out.to_string(),
            transform.dead_letters.to_string(),
            error_text(transform.last_error.as_deref()),
        ]);
    }
    table.render()
}

/// An error that fits into a table.
pub(super) fn error_text(error: Option<&str>) -> String {
    const CHARS_MAX: usize = 60;
    let error = printable(error.unwrap_or_default());
    match error.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error,
    }
}

fn functions_text(functions: &[FunctionStatus]) -> String {
    let mut table = Table::new(["ID", "LABEL", "SIZE", "CARRIER", "UPLOADED", "USED_BY"]);
    for function in functions {
        table.row([
            short_id(&function.id),
            printable(&function.label),
            human_bytes(function.size_bytes),
            function.carrier.clone(),
            format_timestamp(function.uploaded_at_ms),
            function.used_by.join(","),
        ]);
    }
    table.render()
}

fn stock_text(functions: &[StockFunction]) -> String {
    let mut table = Table::new(["ID", "SIZE", "SUMMARY"]);
    for function in functions {
        table.row([
            function.id.clone(),
            human_bytes(function.size_bytes),
            function.summary.clone(),
        ]);
    }
    table.render()
}

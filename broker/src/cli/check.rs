use super::exit::Failure;
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {}
pub(super) async fn run(_: CheckArgs) -> Result<(), Failure> {
    Ok(())
}

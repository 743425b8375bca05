//! A deployment as bytes.

use crate::codec::{DecodeError, Reader, Writer};
use crate::command::Deployment;
use crate::image::codec::transforms::{get_origin, get_version, put_origin, put_version};

pub(super) fn put_deployment(w: &mut Writer, deployment: &Deployment) {
    w.text(&deployment.name);
    w.uuid(deployment.id);
    w.text(&deployment.source);
    put_version(w, &deployment.version);
    put_origin(w, &deployment.origin);
    w.option(deployment.expected, |w, number| w.u64(number.into()));
}

pub(super) fn get_deployment(r: &mut Reader<'_>) -> Result<Deployment, DecodeError> {
    Ok(Deployment {
        name: r.text()?,
        id: r.uuid()?,
        source: r.text()?,
        version: get_version(r)?,
        origin: get_origin(r)?,
        expected: r.option(Reader::u32)?,
    })
}

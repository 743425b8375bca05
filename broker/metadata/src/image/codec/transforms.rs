//! Functions and transforms as bytes. Commands use the same form for what they carry.

use std::sync::Arc;

use tidemill_records::{Offset, TopicId};

use crate::codec::{DecodeError, Reader, Writer};
use crate::image::{
    ArtifactChunks, Carrier, FunctionId, FunctionImage, MetadataImage, OnError, Origin,
    TransformImage, TransformLimits, TransformVersion,
};

pub(super) fn put(w: &mut Writer, image: &MetadataImage) {
    w.count(image.functions.size());
    image
        .functions()
        .for_each(|function| put_function(w, function));
    w.count(image.transforms.size());
    image
        .transforms()
        .for_each(|transform| put_transform(w, transform));
}

pub(super) fn get(r: &mut Reader<'_>, image: &mut MetadataImage) -> Result<(), DecodeError> {
    for _ in 0..r.count()? {
        let function = get_function(r)?;
        image.functions.insert_mut(function.id, Arc::new(function));
    }
    for _ in 0..r.count()? {
        let transform = get_transform(r)?;
        image
            .transforms
            .insert_mut(Arc::clone(&transform.name), Arc::new(transform));
    }
    Ok(())
}

pub(crate) fn put_function(w: &mut Writer, function: &FunctionImage) {
    w.raw(&function.id.0);
    w.text(&function.label);
    w.u64(function.size_bytes);
    w.u8(match function.carrier {
        Carrier::CoreModule => 0,
        Carrier::Component => 1,
    });
    w.uuid(function.chunks.topic.0);
    w.i64(function.chunks.first.0);
    w.u64(function.chunks.count.into());
    w.i64(function.uploaded_at_ms);
}

pub(crate) fn get_function(r: &mut Reader<'_>) -> Result<FunctionImage, DecodeError> {
    Ok(FunctionImage {
        id: get_function_id(r)?,
        label: r.text()?,
        size_bytes: r.u64()?,
        carrier: match r.u8()? {
            0 => Carrier::CoreModule,
            1 => Carrier::Component,
            _ => return Err(DecodeError::Invalid("a function's carrier")),
        },
        chunks: ArtifactChunks {
            topic: TopicId(r.uuid()?),
            first: Offset(r.i64()?),
            count: r.u32()?,
        },
        uploaded_at_ms: r.i64()?,
    })
}

pub(crate) fn get_function_id(r: &mut Reader<'_>) -> Result<FunctionId, DecodeError> {
    let bytes = r.raw(32)?.try_into().expect("32 bytes were taken");
    Ok(FunctionId(bytes))
}

fn put_transform(w: &mut Writer, transform: &TransformImage) {
    w.text(&transform.name);
    w.uuid(transform.id);
    w.text(&transform.source);
    w.count(transform.versions.len());
    for version in &transform.versions {
        put_version(w, version);
    }
    w.u64(transform.current.into());
    w.bool(transform.is_paused);
    put_origin(w, &transform.origin);
    w.i64(transform.created_at_ms);
}

fn get_transform(r: &mut Reader<'_>) -> Result<TransformImage, DecodeError> {
    let transform = TransformImage {
        name: r.text()?,
        id: r.uuid()?,
        source: r.text()?,
        versions: r.list(|r| get_version(r).map(Arc::new))?,
        current: r.u32()?,
        is_paused: r.bool()?,
        origin: Arc::new(get_origin(r)?),
        created_at_ms: r.i64()?,
    };
    let rises = transform.versions.is_sorted_by(|a, b| a.number < b.number);
    match rises && transform.version(transform.current).is_some() {
        true => Ok(transform),
        false => Err(DecodeError::Invalid("the versions of a transform")),
    }
}

pub(crate) fn put_version(w: &mut Writer, version: &TransformVersion) {
    w.u64(version.number.into());
    w.raw(&version.function.0);
    w.count(version.sinks.len());
    version.sinks.iter().for_each(|sink| w.text(sink));
    w.option(version.dead_letters.as_deref(), Writer::text);
    w.count(version.config.len());
    for (key, value) in &version.config {
        w.text(key);
        w.text(value);
    }
    w.u8(match version.on_error {
        OnError::DeadLetters => 0,
        OnError::Skip => 1,
        OnError::Stop => 2,
    });
    w.u64(version.retries.into());
    w.u64(version.backoff_ms.into());
    w.u64(version.limits.memory_bytes);
    w.u64(version.limits.time_ms.into());
    w.u64(version.limits.output_bytes);
    w.u64(version.limits.output_records.into());
    w.u64(version.limits.log_lines_per_second.into());
    w.i64(version.deployed_at_ms);
}

pub(crate) fn get_version(r: &mut Reader<'_>) -> Result<TransformVersion, DecodeError> {
    Ok(TransformVersion {
        number: r.u32()?,
        function: get_function_id(r)?,
        sinks: r.list(Reader::text)?,
        dead_letters: r.option(Reader::text)?,
        config: r.list(|r| Ok((r.text()?, r.text()?)))?,
        on_error: match r.u8()? {
            0 => OnError::DeadLetters,
            1 => OnError::Skip,
            2 => OnError::Stop,
            _ => return Err(DecodeError::Invalid("what becomes of a failed record")),
        },
        retries: r.u32()?,
        backoff_ms: r.u32()?,
        limits: TransformLimits {
            memory_bytes: r.u64()?,
            time_ms: r.u32()?,
            output_bytes: r.u64()?,
            output_records: r.u32()?,
            log_lines_per_second: r.u32()?,
        },
        deployed_at_ms: r.i64()?,
    })
}

pub(crate) fn put_origin(w: &mut Writer, origin: &Origin) {
    w.u64(origin.generation);
    w.uuid(origin.topic.0);
    put_offsets(w, &origin.offsets);
}

pub(crate) fn get_origin(r: &mut Reader<'_>) -> Result<Origin, DecodeError> {
    Ok(Origin {
        generation: r.u64()?,
        topic: TopicId(r.uuid()?),
        offsets: get_offsets(r)?,
    })
}

pub(crate) fn put_offsets(w: &mut Writer, offsets: &[Offset]) {
    w.count(offsets.len());
    offsets.iter().for_each(|offset| w.i64(offset.0));
}

pub(crate) fn get_offsets(r: &mut Reader<'_>) -> Result<Vec<Offset>, DecodeError> {
    r.list(|r| r.i64().map(Offset))
}

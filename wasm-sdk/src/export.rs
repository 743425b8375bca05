//! The macro that makes an artifact.

/// Exports a [`Transform`](crate::Transform) to tidemill; on native targets it only checks that the
/// type is one, so that a function can be tested as a library.
///
/// A function without configuration and fields can be an expression; the macro then defines the type
/// `Function`:
///
/// ```
/// tidemill_sdk::transform!(|record, out| {
///     if record.key().is_some() {
///         out.pass();
///     }
///     Ok(())
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! transform {
    (|$record:ident, $out:ident| $body:expr) => {
        /// The function of this crate.
        pub struct Function;

        impl $crate::Transform for Function {
            fn new(config: &$crate::Config) -> Result<Self, $crate::Failure> {
                config.allow(&[])?;
                Ok(Self)
            }

            fn process(
                &mut self,
                $record: &$crate::Record<'_>,
                $out: &mut $crate::Output<'_>,
            ) -> Result<(), $crate::Failure> {
                $body
            }
        }

        $crate::transform!(Function);
    };
    ($transform:ty) => {
        const _: fn(&$crate::Config) -> Result<$transform, $crate::Failure> =
            <$transform as $crate::Transform>::new;

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "exports have fixed names")]
        const _: () = {
            use std::cell::RefCell;
            use std::sync::atomic::AtomicU32;

            thread_local! {
                static GUEST: RefCell<$crate::guest::Guest<$transform>> =
                    const { RefCell::new($crate::guest::Guest::new()) };
            }

            #[unsafe(export_name = "tidemill_progress")]
            static PROGRESS: AtomicU32 = AtomicU32::new(0);

            #[unsafe(no_mangle)]
            extern "C" fn tidemill_abi_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn buf(bytes: i32) -> i32 {
                GUEST.with_borrow_mut(|guest| guest.buf(bytes))
            }

            #[unsafe(no_mangle)]
            extern "C" fn init(bytes: i32) -> i64 {
                GUEST.with_borrow_mut(|guest| guest.init(bytes))
            }

            #[unsafe(no_mangle)]
            extern "C" fn process(bytes: i32) -> i64 {
                GUEST.with_borrow_mut(|guest| guest.process(bytes, &PROGRESS))
            }
        };
    };
}

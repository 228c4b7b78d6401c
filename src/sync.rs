//! The lock that threads hand things over with, so that a model checker can put its own in the place of it.
//!
//! With the feature `model-check` it is loom's, which tries every order in which threads can take it.

#[cfg(not(feature = "model-check"))]
pub(crate) use parking_lot::Mutex;

#[cfg(feature = "model-check")]
pub(crate) use model::Mutex;

#[cfg(feature = "model-check")]
mod model {
    /// loom's lock, with the interface of parking_lot's.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

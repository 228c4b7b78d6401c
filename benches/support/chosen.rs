//! Is a bench that measures a whole host wanted?

/// Whoever runs all tests runs such a file too and must not wait for it; nor should who names another bench.
pub(crate) fn is_wanted(bench: &str) -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let chosen = filters.peek().is_none() || filters.any(|filter| bench.contains(filter.as_str()));
    given("--bench") && !given("--test") && !given("--list") && chosen
}

//! Writes elements, indented and escaped as libvirt does.

/// An XML text that grows. Elements end in the order in which they began.
pub(super) struct Writer {
    text: String,
    /// Elements that have not ended, and where their first child would be.
    open: Vec<(&'static str, usize)>,
    quote: char,
}

/// As many as the deepest element has before it.
const BLANKS: &str = "                                ";

type Attributes<'a> = [(&'a str, &'a str)];

impl Writer {
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(6144), open: Vec::with_capacity(8), quote: '\'' }
    }

    /// Which quotes attributes have from now on.
    pub(super) fn quote(&mut self, quote: char) {
        self.quote = quote;
    }

    /// Begins an element that has others in it.
    pub(super) fn open(&mut self, name: &'static str, attributes: &Attributes<'_>) {
        self.begin(name, attributes);
        self.text.push_str(">\n");
        self.open.push((name, self.text.len()));
    }

    /// Ends the one that began last.
    pub(super) fn close(&mut self) {
        let Some((name, children)) = self.open.pop() else { return };
        if self.text.len() == children {
            // There were none after all.
            self.text.truncate(children - ">\n".len());
            self.text.push_str("/>\n");
        } else {
            self.indent();
            self.end(name);
        }
    }

    /// An element with nothing in it.
    pub(super) fn empty(&mut self, name: &str, attributes: &Attributes<'_>) {
        self.begin(name, attributes);
        self.text.push_str("/>\n");
    }

    /// An element with text in it.
    pub(super) fn text(&mut self, name: &str, attributes: &Attributes<'_>, text: &str) {
        self.begin(name, attributes);
        self.text.push('>');
        self.escaped(text);
        self.end(name);
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &str, attributes: &Attributes<'_>) {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push('=');
            self.text.push(self.quote);
            self.escaped(value);
            self.text.push(self.quote);
        }
    }

    fn end(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    fn indent(&mut self) {
        let deep = (2 * self.open.len()).min(BLANKS.len());
        self.text.push_str(&BLANKS[..deep]);
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(['<', '>', '&', '\'', '"']) {
            let (before, special) = rest.split_at(at);
            self.text.push_str(before);
            self.text.push_str(match special.as_bytes()[0] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                b'\'' => "&apos;",
                _ => "&quot;",
            });
            rest = &special[1..];
        }
        self.text.push_str(rest);
    }
}

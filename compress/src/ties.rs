//! Which elements belong together: the channels of many maps, or the maps of one scale. Union–find.

/// Sets of elements, joined pair by pair.
pub(crate) struct Ties {
    parent: Vec<usize>,
}

impl Ties {
    /// `count` elements, each a set by itself.
    pub(crate) fn new(count: usize) -> Ties {
        Ties { parent: (0..count).collect() }
    }

    /// The element that stands for the set of `element`.
    pub(crate) fn root(&mut self, mut element: usize) -> usize {
        while self.parent[element] != element {
            self.parent[element] = self.parent[self.parent[element]];
            element = self.parent[element];
        }
        element
    }

    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

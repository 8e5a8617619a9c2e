//! Finds elements that belong together (channels of several maps, or maps with one scale) with union–find.

/// Disjoint sets of elements, joined in pairs.
pub(crate) struct Ties {
    parent: Vec<usize>,
}

impl Ties {
    /// `count` elements, each in its own set.
    pub(crate) fn new(count: usize) -> Ties {
        Ties { parent: (0..count).collect() }
    }

    /// The representative of the set of `element`.
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

//! The heap of a process that lives for a millisecond: it only grows, so that nothing is spent on giving memory back, and
//! what is next to each other in time shares pages, each of which costs a fault.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

/// Bytes that are mapped at once; only those that are used take memory.
const CHUNK: usize = 512 * 1024;

/// An allocator for a process with one thread.
pub(crate) struct Heap(UnsafeCell<Chunk>);

/// What is left of the newest mapping. It was never handed out, so it is zero.
struct Chunk {
    next: *mut u8,
    left: usize,
}

// SAFETY: the helper has one thread, and so has its child, which has a copy of the memory or is waited for.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Chunk { next: ptr::null_mut(), left: 0 }))
    }
}

impl Chunk {
    /// Takes `size` bytes at a multiple of `align` off it.
    fn take(&mut self, size: usize, align: usize) -> Option<*mut u8> {
        let skip = self.next.align_offset(align);
        let whole = skip.checked_add(size).filter(|whole| *whole <= self.left)?;
        // SAFETY: both are within the mapping, of which `left` bytes follow `next`.
        let (block, next) = unsafe { (self.next.add(skip), self.next.add(whole)) };
        (self.next, self.left) = (next, self.left - whole);
        Some(block)
    }

    /// Maps at least `size` bytes; what was left of the former mapping is lost.
    fn map(&mut self, size: usize) -> Option<()> {
        let length = size.max(CHUNK);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping wherever the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        (self.next, self.left) = (start.cast(), length);
        Some(())
    }
}

// SAFETY: blocks do not overlap, since each is taken off the chunk, and are as long and as aligned as was asked for.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: there is one thread, and nothing below allocates.
        let chunk = unsafe { &mut *self.0.get() };
        let (size, align) = (layout.size(), layout.align());
        if let Some(block) = chunk.take(size, align) {
            return block;
        }
        let mapped = size.checked_add(align).and_then(|size| chunk.map(size));
        mapped.and_then(|()| chunk.take(size, align)).unwrap_or(ptr::null_mut())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; no byte was ever handed out before, so all of them are zero.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size <= layout.size() {
            return block;
        }
        // SAFETY: as in `alloc`.
        let chunk = unsafe { &mut *self.0.get() };
        // SAFETY: the end of the block, which is one.
        let is_last = unsafe { block.add(layout.size()) } == chunk.next;
        if is_last && chunk.take(size - layout.size(), 1).is_some() {
            return block;
        }
        // SAFETY: the alignment is a valid one, and the caller promises that the new size is.
        let longer = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !longer.is_null() {
            // SAFETY: two blocks of at least the old length.
            unsafe { ptr::copy_nonoverlapping(block, longer, layout.size()) };
        }
        longer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn blocks_are_aligned_and_apart() {
        let heap = Heap::new();
        let mut blocks = Vec::new();
        for (size, align) in [(1, 1), (7, 8), (4096, 4096), (3, 1), (CHUNK, 64), (5, 16), (2 * CHUNK, 1), (8, 8)] {
            // SAFETY: sizes are not zero; the block is written within its length.
            unsafe {
                let block = heap.alloc_zeroed(layout(size, align));
                assert!(!block.is_null() && block.addr().is_multiple_of(align));
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
                block.write_bytes(0xff, size);
                blocks.push((block.addr(), size));
            }
        }
        blocks.sort_unstable();
        assert!(blocks.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{blocks:x?}");
    }

    #[test]
    fn what_grows_keeps_its_bytes() {
        let heap = Heap::new();
        // SAFETY: each block is used within its length, and not after it was given to `realloc`.
        unsafe {
            let block = heap.alloc(layout(8, 8));
            block.write_bytes(7, 8);
            let longer = heap.realloc(block, layout(8, 8), 64);
            assert_eq!(longer, block, "the last block grows in place");
            heap.alloc(layout(1, 1));
            let moved = heap.realloc(longer, layout(64, 8), 128);
            assert_ne!(moved, longer);
            assert_eq!(std::slice::from_raw_parts(moved, 8), [7; 8]);
            assert_eq!(heap.realloc(moved, layout(128, 8), 16), moved);
            let far = heap.realloc(moved, layout(128, 8), 3 * CHUNK);
            assert_eq!(std::slice::from_raw_parts(far, 8), [7; 8]);
        }
    }
}

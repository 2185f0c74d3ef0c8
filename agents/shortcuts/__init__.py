"""The same numbers in less time. Never the reference: each is compared with it by its tests."""

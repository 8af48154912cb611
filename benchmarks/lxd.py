"""x"""
BENCHMARKS = {}

// The kernels that torch has none for: attention over a cache in pages with ALiBi, and products with
// matrices kept in 4 or 8 bits. Compiled by NVRTC for the device at hand, so no header is included.
// Two-byte numbers are bfloat16 as raw bits.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef long long i64;

#ifndef PAGE
#define PAGE 32
#endif
#define FULL 0xffffffffu
#define LOWEST -1e30f

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

struct BFloat16 {
    typedef u16 Number;
    static const int vector = 8;  // numbers in 16 bytes
    __device__ static float get(u16 x) { return __uint_as_float((u32)x << 16); }
    __device__ static u16 put(float x) { return (u16)pack(x, 0.0f); }
    __device__ static void spread(uint4 v, float* out) {
        u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[2 * i] = __uint_as_float(words[i] << 16);
            out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    }
};

struct Float32 {
    typedef float Number;
    static const int vector = 4;
    __device__ static float get(float x) { return x; }
    __device__ static float put(float x) { return x; }
    __device__ static void spread(uint4 v, float* out) {
        out[0] = __uint_as_float(v.x), out[1] = __uint_as_float(v.y);
        out[2] = __uint_as_float(v.z), out[3] = __uint_as_float(v.w);
    }
};

// Rows. `rows` [count, width] int32 says of each row its position, -1 for padding, then its session's pages.
// A block's cache is [pages, 2 (keys, values), heads, PAGE, dim].

// New keys and values into their pages. `qkv` [count, heads, 3, dim].
template <class T>
__global__ void write_rows(const typename T::Number* qkv, typename T::Number* cache, const int* rows,
                           int width, int heads, int dim) {
    const int* row = rows + (i64)blockIdx.x * width;
    int position = row[0];
    if (position < 0) return;
    int vectors = dim / T::vector;
    i64 page = row[1 + position / PAGE];
    const uint4* from = (const uint4*)qkv + (i64)blockIdx.x * heads * 3 * vectors;
    uint4* to = (uint4*)cache + page * 2 * heads * PAGE * vectors;
    int slot = position % PAGE;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < 2 * heads * vectors; i += gridDim.y * blockDim.x) {
        int part = i / (heads * vectors), head = i / vectors % heads, at = i % vectors;
        to[((part * heads + head) * PAGE + slot) * vectors + at] = from[(head * 3 + 1 + part) * vectors + at];
    }
}

// One row's attention over the pages [first, last) of its keys, by a block of four warps that take pages
// in turn; merged in shared memory. Several blocks share a long row: `partial` [count, heads, splits, dim + 2]
// then holds sum, maximum and denominator of each. Scores, softmax and sums are float32.
template <class T, int DIM>
__global__ void __launch_bounds__(128) attend_rows(
    const typename T::Number* qkv, const typename T::Number* cache, const int* rows, const float* slopes,
    float* partial, int width, int heads, int split_pages, float scale) {
    const int WARPS = 4, VECTORS = DIM / T::vector, EACH = (DIM + 31) / 32;
    __shared__ float query[DIM];
    __shared__ float sums[WARPS][DIM];
    __shared__ float maxima[WARPS], totals[WARPS];
    int head = blockIdx.x, splits = gridDim.y, split = blockIdx.y, index = blockIdx.z;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int* row = rows + (i64)index * width;
    int position = row[0];
    int pages = position / PAGE + 1;
    int first = split * split_pages, last = min(first + split_pages, pages);
    if (position < 0 || first >= pages) return;
    const typename T::Number* mine = qkv + ((i64)index * heads + head) * 3 * DIM;
    for (int i = threadIdx.x; i < DIM; i += 128) query[i] = T::get(mine[i]) * scale;
    __syncthreads();

    float slope = slopes[head], maximum = LOWEST, total = 0.0f, sum[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) sum[i] = 0.0f;
    for (int at = first + warp; at < last; at += WARPS) {
        i64 page = row[1 + at];
        const typename T::Number* keys = cache + (page * 2 * heads + head) * PAGE * DIM;
        const typename T::Number* values = keys + (i64)heads * PAGE * DIM;
        int distance = position - (at * PAGE + lane);
        float score = LOWEST;
        if (distance >= 0) {  // a lane has a key of its own
            const uint4* key = (const uint4*)(keys + lane * DIM);
            float product = 0.0f;
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                float numbers[T::vector];
                T::spread(key[v], numbers);
#pragma unroll
                for (int i = 0; i < T::vector; i++) product += numbers[i] * query[v * T::vector + i];
            }
            score = product - slope * (float)distance;
        }
        float highest = score;
#pragma unroll
        for (int step = 16; step; step /= 2) highest = fmaxf(highest, __shfl_xor_sync(FULL, highest, step));
        highest = fmaxf(highest, maximum);
        float fade = __expf(maximum - highest), weight = distance >= 0 ? __expf(score - highest) : 0.0f;
        maximum = highest;
        float all = weight;
#pragma unroll
        for (int step = 16; step; step /= 2) all += __shfl_xor_sync(FULL, all, step);
        total = total * fade + all;
#pragma unroll
        for (int i = 0; i < EACH; i++) sum[i] *= fade;
        int keys_here = min(PAGE, position - at * PAGE + 1);
        if ((DIM == 64 || DIM == 128) && sizeof(typename T::Number) == 2) {  // a lane has neighbouring numbers of every value
#pragma unroll 8
            for (int k = 0; k < keys_here; k++) {
                float share = __shfl_sync(FULL, weight, k);
                const u16* value = (const u16*)values + k * DIM + lane * EACH;
                uint2 both = EACH == 4 ? *(const uint2*)value : make_uint2(*(const u32*)value, 0);
                sum[0] += share * __uint_as_float(both.x << 16);
                sum[1] += share * __uint_as_float(both.x & 0xffff0000u);
                if (EACH == 4) {
                    sum[EACH - 2] += share * __uint_as_float(both.y << 16);
                    sum[EACH - 1] += share * __uint_as_float(both.y & 0xffff0000u);
                }
            }
        } else {
            for (int k = 0; k < keys_here; k++) {
                float share = __shfl_sync(FULL, weight, k);
#pragma unroll
                for (int i = 0; i < EACH; i++)
                    if (lane * EACH + i < DIM) sum[i] += share * T::get(values[k * DIM + lane * EACH + i]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (lane * EACH + i < DIM) sums[warp][lane * EACH + i] = sum[i];
    if (lane == 0) maxima[warp] = maximum, totals[warp] = total;
    __syncthreads();
    float best = fmaxf(fmaxf(maxima[0], maxima[1]), fmaxf(maxima[2], maxima[3]));
    float* out = partial + (((i64)index * heads + head) * splits + split) * (DIM + 2);
    for (int i = threadIdx.x; i < DIM; i += 128) {
        float whole = 0.0f;
        for (int w = 0; w < WARPS; w++) whole += sums[w][i] * __expf(maxima[w] - best);
        out[i] = whole;
    }
    if (threadIdx.x == 0) {
        float whole = 0.0f;
        for (int w = 0; w < WARPS; w++) whole += totals[w] * __expf(maxima[w] - best);
        out[DIM] = best, out[DIM + 1] = whole;
    }
}

// The splits of each row and head put together: `out` [count, heads, dim]; zeros for padding.
template <class T, int DIM>
__global__ void merge_rows(const float* partial, typename T::Number* out, const int* rows, int width, int heads,
                           int splits, int split_pages) {
    int head = blockIdx.x, index = blockIdx.y, i = threadIdx.x;
    int position = rows[(i64)index * width];
    int used = position < 0 ? 0 : position / PAGE / split_pages + 1;
    const float* parts = partial + ((i64)index * heads + head) * splits * (DIM + 2);
    float best = LOWEST, sum = 0.0f, total = 0.0f;
    for (int s = 0; s < used; s++) best = fmaxf(best, parts[s * (DIM + 2) + DIM]);
    for (int s = 0; s < used; s++) {
        const float* part = parts + s * (DIM + 2);
        float fade = __expf(part[DIM] - best);
        sum += part[i] * fade;
        total += part[DIM + 1] * fade;
    }
    out[((i64)index * heads + head) * DIM + i] = T::put(used ? sum / total : 0.0f);
}

// Layer normalisation of float32 rows into bfloat16. One block a row.
__global__ void __launch_bounds__(512) normalise(const float* x, const float* weight, const float* bias, u16* out,
                                                 int hidden, float epsilon) {
    __shared__ float partial[2][16];
    const float* row = x + (i64)blockIdx.x * hidden;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float held[32], sum = 0.0f;  // rows of up to 16,384 numbers stay in registers
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int at = i * 512 + threadIdx.x;
        held[i] = at < hidden ? row[at] : 0.0f;
        sum += held[i];
    }
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(FULL, sum, step);
    if (lane == 0) partial[0][warp] = sum;
    __syncthreads();
    float mean = 0.0f, squares = 0.0f;
    for (int w = 0; w < 16; w++) mean += partial[0][w];
    mean /= (float)hidden;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        float off = i * 512 + threadIdx.x < hidden ? held[i] - mean : 0.0f;
        squares += off * off;
    }
    for (int step = 16; step; step /= 2) squares += __shfl_xor_sync(FULL, squares, step);
    if (lane == 0) partial[1][warp] = squares;
    __syncthreads();
    float variance = 0.0f;
    for (int w = 0; w < 16; w++) variance += partial[1][w];
    float factor = rsqrtf(variance / (float)hidden + epsilon);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int at = i * 512 + threadIdx.x;
        if (at < hidden)
            out[(i64)blockIdx.x * hidden + at] = BFloat16::put((held[i] - mean) * factor * weight[at] + bias[at]);
    }
}

#if __CUDA_ARCH__ >= 800

// Products with matrices [n, k] kept in few bits, for few rows x [m, k] of bfloat16.
//
// A warp multiplies 16 rows of the matrix at a time with 8 rows of x by mma.m16n8k16. Which k the
// instruction's places stand for is ours to choose, as long as both sides agree: lane t of a quad takes
// consecutive numbers, so that it loads 16 bytes of its matrix row at once. ROWS × SLICES = 8 warps a
// block: SLICES of them share 16 rows, each with every SLICES-th piece of k, and add up at the end in an
// order that does not change.

#define NF4 0
#define INT8 1
#define BF16 2

struct Matrix {
    const u8* numbers;
    const u8* scale_codes;    // NF4: of each 64 numbers, into `scale_values`
    const float* scale_values;  // NF4: 256 of them
    const float* scales;      // NF4: of each 256 scale codes; INT8: of each row
    const float* offset;      // NF4: added to every scale
    const float* levels;      // NF4: the 16 values
};

__device__ __forceinline__ float nf4_scale(const Matrix& a, i64 block) {
    return __ldg(a.scale_values + __ldg(a.scale_codes + block)) * __ldg(a.scales + (block >> 8)) + __ldg(a.offset);
}

__device__ __forceinline__ u32 times(u32 x, u32 y) {  // two products; -0 keeps the sign of zeros
    u32 z;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(z) : "r"(x), "r"(y), "r"(0x80008000u));
    return z;
}

__device__ __forceinline__ void multiply(float* c, const u32* a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Bytes b and b + 1 of `word`, signed, as bfloat16: exact, through float32's mantissa.
__device__ __forceinline__ u32 two_int8(u32 word, int b) {
    u32 raised = word ^ 0x80808080u;
    float low = __uint_as_float(__byte_perm(raised, 0x4b000000u, 0x7440 + b)) - 8388736.0f;
    float high = __uint_as_float(__byte_perm(raised, 0x4b000000u, 0x7441 + b)) - 8388736.0f;
    return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

__device__ __forceinline__ u32 word_of(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

__device__ __forceinline__ uint4 stream(const u8* at) {  // read once: past the first cache
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
    return v;
}

__device__ __forceinline__ float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

// What a byte of NF4 stands for, a copy a lane, so that lanes never meet in a bank.
__device__ __forceinline__ void fill_pairs(u32* pairs, const float* levels) {
    for (int byte = threadIdx.x; byte < 256; byte += blockDim.x) {
        u32 pair = pack(levels[byte >> 4], levels[byte & 15]);
        for (int i = 0; i < 32; i++) pairs[byte * 32 + ((i + byte) & 31)] = pair;
    }
    __syncthreads();
}

// `out` [m, n] bfloat16, or float32 where `wide`. `bias` may be null. NT: pieces of 8 rows of x.
template <int FORMAT, int NT, int ROWS>
__global__ void __launch_bounds__(256, NT == 1 ? 4 : 2) product(
    const u8* numbers, const u8* scale_codes, const float* scale_values, const float* scales, const float* offset,
    const float* levels, const u16* x, const u16* bias, void* out, int n, int k, int m, int with_gelu, int wide) {
    const int SLICES = 8 / ROWS;
    const int LANE = FORMAT == NF4 ? 32 : FORMAT == INT8 ? 16 : 8;  // numbers in a lane's 16 bytes
    const int STEP = 4 * LANE;
    __shared__ u32 pairs[FORMAT == NF4 ? 256 * 32 : 1];  // what a byte stands for, a copy a lane: no conflicts
    __shared__ float sums[8][NT * 8][16];
    Matrix a = {numbers, scale_codes, scale_values, scales, offset, levels};
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int row_warp = warp / SLICES, slice = warp % SLICES;
    if (FORMAT == NF4) {
        for (int i = threadIdx.x; i < 256 * 32; i += 256)
            pairs[i] = pack(a.levels[i / 32 >> 4], a.levels[i / 32 & 15]);
        __syncthreads();
    }
    int from = blockIdx.y * NT * 8;
    i64 row_bytes = FORMAT == NF4 ? k / 2 : FORMAT == INT8 ? k : 2 * (i64)k;
    int tiles = (n + 16 * ROWS - 1) / (16 * ROWS);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        int top = min((tile * ROWS + row_warp) * 16, n - 16);  // a last piece may be done twice
        const u8* low = a.numbers + (i64)(top + g) * row_bytes + t * 16;
        const u8* high = low + 8 * row_bytes;
        i64 low_block = (i64)(top + g) * (k / 64) + t / 2, high_block = low_block + 8 * (i64)(k / 64);
        float c[NT][4];
#pragma unroll
        for (int i = 0; i < NT; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0.0f;
        int steps = k / STEP;
        uint4 low_next, high_next;
        float low_scale = 0.0f, high_scale = 0.0f;
        if (slice < steps) {
            low_next = stream(low + (i64)slice * 64), high_next = stream(high + (i64)slice * 64);
            if (FORMAT == NF4) {
                low_scale = nf4_scale(a, low_block + slice * 2);
                high_scale = nf4_scale(a, high_block + slice * 2);
            }
        }
        for (int step = slice; step < steps; step += SLICES) {
            uint4 low_now = low_next, high_now = high_next;
            u32 low_factor = pack(low_scale, low_scale), high_factor = pack(high_scale, high_scale);
            int next = step + SLICES;
            if (next < steps) {
                low_next = stream(low + (i64)next * 64), high_next = stream(high + (i64)next * 64);
                if (FORMAT == NF4) {
                    low_scale = nf4_scale(a, low_block + next * 2);
                    high_scale = nf4_scale(a, high_block + next * 2);
                }
            }
            const u16* part = x + (i64)step * STEP + t * LANE;
#pragma unroll
            for (int q = 0; q < LANE / 8; q++) {  // 8 numbers: two instructions
                uint4 b[NT];
#pragma unroll
                for (int i = 0; i < NT; i++) {
                    int row = from + i * 8 + g;
                    b[i] = row < m ? __ldg((const uint4*)(part + (i64)row * k + q * 8)) : make_uint4(0, 0, 0, 0);
                }
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    u32 f[4];
                    if (FORMAT == NF4) {
                        u32 one = word_of(low_now, q), two = word_of(high_now, q);
                        f[0] = times(pairs[(one >> 16 * half & 255) * 32 + lane], low_factor);
                        f[1] = times(pairs[(two >> 16 * half & 255) * 32 + lane], high_factor);
                        f[2] = times(pairs[(one >> (16 * half + 8) & 255) * 32 + lane], low_factor);
                        f[3] = times(pairs[(two >> (16 * half + 8) & 255) * 32 + lane], high_factor);
                    } else if (FORMAT == INT8) {
                        u32 one = word_of(low_now, 2 * q + half), two = word_of(high_now, 2 * q + half);
                        f[0] = two_int8(one, 0), f[1] = two_int8(two, 0);
                        f[2] = two_int8(one, 2), f[3] = two_int8(two, 2);
                    } else {
                        f[0] = word_of(low_now, 2 * half), f[1] = word_of(high_now, 2 * half);
                        f[2] = word_of(low_now, 2 * half + 1), f[3] = word_of(high_now, 2 * half + 1);
                    }
#pragma unroll
                    for (int i = 0; i < NT; i++)
                        multiply(c[i], f, half ? b[i].z : b[i].x, half ? b[i].w : b[i].y);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < NT; i++) {
            sums[warp][i * 8 + 2 * t][g] = c[i][0], sums[warp][i * 8 + 2 * t + 1][g] = c[i][1];
            sums[warp][i * 8 + 2 * t][g + 8] = c[i][2], sums[warp][i * 8 + 2 * t + 1][g + 8] = c[i][3];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < NT * 8 * ROWS * 16; i += 256) {
            int column = i / (ROWS * 16), group = i / 16 % ROWS, r = i % 16;
            int row = min((tile * ROWS + group) * 16, n - 16) + r;
            if (from + column >= m) continue;
            float y = 0.0f;
#pragma unroll
            for (int s = 0; s < SLICES; s++) y += sums[group * SLICES + s][column][r];
            if (FORMAT == INT8) y *= a.scales[row];
            if (bias) y += BFloat16::get(bias[row]);
            if (with_gelu) y = gelu(y);
            i64 at = (i64)(from + column) * n + row;
            if (wide) ((float*)out)[at] = y;
            else ((u16*)out)[at] = BFloat16::put(y);
        }
        __syncthreads();
    }
}

// The same with DEEP pieces of 16 rows of the matrix a warp at once: what it reads of x serves all of them. BLOCKS:
// as many shall find room on a multiprocessor. With DEEP = 1 it would be `product`, which stands by itself since one
// row of x in NF4 is bound by instructions: it has 273 a step, where the compiler makes 299 of this.
template <int FORMAT, int NT, int ROWS, int DEEP, int BLOCKS>
__global__ void __launch_bounds__(256, BLOCKS) deep_product(
    const u8* numbers, const u8* scale_codes, const float* scale_values, const float* scales, const float* offset,
    const float* levels, const u16* x, const u16* bias, void* out, int n, int k, int m, int with_gelu, int wide) {
    const int SLICES = 8 / ROWS;
    const int LANE = FORMAT == NF4 ? 32 : FORMAT == INT8 ? 16 : 8;  // numbers in a lane's 16 bytes
    const int STEP = 4 * LANE;
    const int GROUP = NT < 4 ? NT : 4;
    __shared__ u32 pairs[FORMAT == NF4 ? 256 * 32 : 1];
    __shared__ float sums[8][GROUP * 8][16];
    Matrix a = {numbers, scale_codes, scale_values, scales, offset, levels};
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int row_warp = warp / SLICES, slice = warp % SLICES;
    if (FORMAT == NF4) fill_pairs(pairs, levels);
    int from = blockIdx.y * NT * 8, steps = k / STEP;
    i64 row_bytes = FORMAT == NF4 ? k / 2 : FORMAT == INT8 ? k : 2 * (i64)k;
    int tiles = (n + 16 * ROWS * DEEP - 1) / (16 * ROWS * DEEP);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const u8* low[DEEP];
        i64 low_block[DEEP];
        float c[DEEP][NT][4];
        uint4 low_next[DEEP], high_next[DEEP];
        float low_scale[DEEP], high_scale[DEEP];
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
            int top = min(((tile * ROWS + row_warp) * DEEP + d) * 16, n - 16);  // a last piece may be done twice
            low[d] = a.numbers + (i64)(top + g) * row_bytes + t * 16;
            low_block[d] = (i64)(top + g) * (k / 64) + t / 2;
#pragma unroll
            for (int i = 0; i < NT; i++) c[d][i][0] = c[d][i][1] = c[d][i][2] = c[d][i][3] = 0.0f;
            low_scale[d] = high_scale[d] = 0.0f;
            if (slice < steps) {
                low_next[d] = stream(low[d] + (i64)slice * 64);
                high_next[d] = stream(low[d] + 8 * row_bytes + (i64)slice * 64);
                if (FORMAT == NF4) {
                    low_scale[d] = nf4_scale(a, low_block[d] + slice * 2);
                    high_scale[d] = nf4_scale(a, low_block[d] + 8 * (i64)(k / 64) + slice * 2);
                }
            }
        }
        for (int step = slice; step < steps; step += SLICES) {
            uint4 low_now[DEEP], high_now[DEEP];
            u32 low_factor[DEEP], high_factor[DEEP];
            int next = step + SLICES;
#pragma unroll
            for (int d = 0; d < DEEP; d++) {
                low_now[d] = low_next[d], high_now[d] = high_next[d];
                low_factor[d] = pack(low_scale[d], low_scale[d]), high_factor[d] = pack(high_scale[d], high_scale[d]);
                if (next < steps) {
                    low_next[d] = stream(low[d] + (i64)next * 64);
                    high_next[d] = stream(low[d] + 8 * row_bytes + (i64)next * 64);
                    if (FORMAT == NF4) {
                        low_scale[d] = nf4_scale(a, low_block[d] + next * 2);
                        high_scale[d] = nf4_scale(a, low_block[d] + 8 * (i64)(k / 64) + next * 2);
                    }
                }
            }
            const u16* part = x + (i64)step * STEP + t * LANE;
#pragma unroll
            for (int q = 0; q < LANE / 8; q++) {  // 8 numbers: two instructions
                uint4 b[NT];
#pragma unroll
                for (int i = 0; i < NT; i++) {
                    int row = from + i * 8 + g;
                    b[i] = row < m ? __ldg((const uint4*)(part + (i64)row * k + q * 8)) : make_uint4(0, 0, 0, 0);
                }
#pragma unroll
                for (int half = 0; half < 2; half++) {
#pragma unroll
                    for (int d = 0; d < DEEP; d++) {
                        u32 f[4];
                        if (FORMAT == NF4) {
                            u32 one = word_of(low_now[d], q), two = word_of(high_now[d], q);
                            f[0] = times(pairs[(one >> 16 * half & 255) * 32 + lane], low_factor[d]);
                            f[1] = times(pairs[(two >> 16 * half & 255) * 32 + lane], high_factor[d]);
                            f[2] = times(pairs[(one >> (16 * half + 8) & 255) * 32 + lane], low_factor[d]);
                            f[3] = times(pairs[(two >> (16 * half + 8) & 255) * 32 + lane], high_factor[d]);
                        } else if (FORMAT == INT8) {
                            u32 one = word_of(low_now[d], 2 * q + half), two = word_of(high_now[d], 2 * q + half);
                            f[0] = two_int8(one, 0), f[1] = two_int8(two, 0);
                            f[2] = two_int8(one, 2), f[3] = two_int8(two, 2);
                        } else {
                            f[0] = word_of(low_now[d], 2 * half), f[1] = word_of(high_now[d], 2 * half);
                            f[2] = word_of(low_now[d], 2 * half + 1), f[3] = word_of(high_now[d], 2 * half + 1);
                        }
#pragma unroll
                        for (int i = 0; i < NT; i++)
                            multiply(c[d][i], f, half ? b[i].z : b[i].x, half ? b[i].w : b[i].y);
                    }
                }
            }
        }
#pragma unroll
        for (int d = 0; d < DEEP; d++) {
#pragma unroll
            for (int first = 0; first < NT; first += GROUP) {  // as many at a time as shared memory has room for
#pragma unroll
                for (int j = 0; j < GROUP; j++) {
                    float* mine = c[d][first + j];
                    sums[warp][j * 8 + 2 * t][g] = mine[0], sums[warp][j * 8 + 2 * t + 1][g] = mine[1];
                    sums[warp][j * 8 + 2 * t][g + 8] = mine[2], sums[warp][j * 8 + 2 * t + 1][g + 8] = mine[3];
                }
                __syncthreads();
                for (int i = threadIdx.x; i < GROUP * 8 * ROWS * 16; i += 256) {
                    int column = i / (ROWS * 16), group = i / 16 % ROWS, r = i % 16;
                    int row = min(((tile * ROWS + group) * DEEP + d) * 16, n - 16) + r, at = from + first * 8 + column;
                    if (at >= m) continue;
                    float y = 0.0f;
#pragma unroll
                    for (int s = 0; s < SLICES; s++) y += sums[group * SLICES + s][column][r];
                    if (FORMAT == INT8) y *= a.scales[row];
                    if (bias) y += BFloat16::get(bias[row]);
                    if (with_gelu) y = gelu(y);
                    if (wide) ((float*)out)[(i64)at * n + row] = y;
                    else ((u16*)out)[(i64)at * n + row] = BFloat16::put(y);
                }
                __syncthreads();
            }
        }
    }
}

// Rows [first, first + count) of a matrix as bfloat16 [count, k], for products with many rows of x.
template <int FORMAT>
__global__ void expand(const u8* numbers, const u8* scale_codes, const float* scale_values, const float* scales,
                       const float* offset, const float* levels, u16* out, int first, int count, int k) {
    __shared__ u32 pairs[FORMAT == NF4 ? 256 * 32 : 1];
    Matrix a = {numbers, scale_codes, scale_values, scales, offset, levels};
    const int LANE = FORMAT == NF4 ? 8 : 4;  // numbers in 4 bytes
    int lane = threadIdx.x % 32;
    if (FORMAT == NF4) fill_pairs(pairs, levels);
    i64 total = (i64)count * k / LANE, start = (i64)first * k / LANE;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (i64)gridDim.x * blockDim.x) {
        u32 word = __ldg((const u32*)a.numbers + start + i);
        if (FORMAT == NF4) {
            float scale = nf4_scale(a, (start + i) / 8);
            u32 factor = pack(scale, scale);
            ((uint4*)out)[i] = make_uint4(times(pairs[(word & 255) * 32 + lane], factor),
                                          times(pairs[(word >> 8 & 255) * 32 + lane], factor),
                                          times(pairs[(word >> 16 & 255) * 32 + lane], factor),
                                          times(pairs[(word >> 24) * 32 + lane], factor));
        } else {
            float scale = __ldg(a.scales + (start + i) * LANE / k);
            u32 one = two_int8(word, 0), two = two_int8(word, 2);
            ((uint2*)out)[i] =
                make_uint2(pack(__uint_as_float(one << 16) * scale, __uint_as_float(one & 0xffff0000u) * scale),
                           pack(__uint_as_float(two << 16) * scale, __uint_as_float(two & 0xffff0000u) * scale));
        }
    }
}

#endif

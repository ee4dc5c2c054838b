/* Bitfields, packing, alignment, anonymous members, empty structs. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long s64;

struct empty {};
struct empty_tail { int a; struct empty e; };
struct bits { int a : 3; int b : 5; int : 0; int c : 7; unsigned long d : 33; u8 e : 1; u8 f; };
struct bits_gap { u64 a : 1; u64 : 20; u64 b : 13; u8 c; u32 d : 4; };
struct bits_pad { char x; int : 7; int y : 3; long : 0; char z; };
struct packed { u8 a; u32 b; u64 c; u16 d; } __attribute__((packed));
struct packed_inner { u8 a; struct packed p; u32 b; };
struct packed_bits { u32 a : 1; u32 b : 31; u8 c; u64 d; } __attribute__((packed));
struct aligned { u8 a; u32 b __attribute__((aligned(16))); u8 c; };
struct aligned_whole { u8 a; } __attribute__((aligned(64)));
struct holder { struct aligned_whole w; u8 t; struct aligned q[2]; };
struct tail { u64 a; u8 b; };
struct tail_user { struct tail t; u8 c; };
struct flexible { u32 n; u8 data[]; };
struct zero { u32 n; u8 data[0]; u64 z[0][3]; };
union choice { u8 a; u16 b[3]; struct { u32 c, d; }; struct { u8 x : 2, y : 6; } e; };
struct nested {
	struct { int a; union { int b; long c; struct { char d[3]; enum { N_ONE = 1, N_TWO } e; }; }; };
	struct inner { struct nested *back; struct later *ahead; } i;
	union { struct { u8 p; } q; u32 r; } s[4];
};
struct later { struct nested n; struct later *next; struct never *never; union unseen *unseen; };
enum small { S_A, S_B } __attribute__((packed));
enum wide { W_A = 0x100000000ULL, W_B = 1 };
enum wide_signed { WS_A = -0x100000000LL, WS_B };
enum negative { NEG_A = -5, NEG_B = 7 };
enum large { LARGE_A = 0xffffffff, LARGE_B = 0x80000000 };
enum word { WORD_A = 1, WORD_B } __attribute__((mode(word)));
struct enums { enum small s; enum wide w; enum wide_signed ws; enum negative n; enum large l; enum word o; };
struct floats { float f; double d; long double ld; _Bool b; __int128 i; };
struct far { u8 a; u64 b[5]; u8 c; u8 d[100]; u16 e; } __attribute__((aligned(32)));
struct odd { u8 a[3]; u8 b[5]; u16 c; u8 d; } __attribute__((packed, aligned(2)));

#define USE(kind, name) kind name use_##name
USE(struct, empty); USE(struct, empty_tail); USE(struct, bits); USE(struct, bits_gap); USE(struct, bits_pad);
USE(struct, packed); USE(struct, packed_inner); USE(struct, packed_bits); USE(struct, aligned);
USE(struct, holder); USE(struct, tail_user); USE(struct, flexible); USE(struct, zero); USE(union, choice);
USE(struct, nested); USE(struct, later); USE(struct, enums); USE(struct, floats); USE(struct, far);
USE(struct, odd); enum { TOP_A, TOP_B = 9 } top; s64 used;

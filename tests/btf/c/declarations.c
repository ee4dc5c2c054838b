/* Function pointers, arrays, qualifiers, typedef chains, names used twice, tags. */
typedef int (*fn)(void);
typedef fn fns[3];
typedef int matrix[2][3][4];
typedef const char *const *volatile names_t;
typedef struct { int x; } anon_t;
typedef struct both { struct both *next; } both;
typedef enum both_e { BOTH_A } both_e;
typedef void (*signal_t(int, void (*)(int)))(int);
typedef int variadic(const char *, ...);
typedef struct tree *tree_t;
struct visitor;
typedef tree_t (*visit_t)(tree_t, struct visitor *);
struct visitor { visit_t visit; struct visitor *outer; };
struct tree { tree_t left, right; visit_t visit; int (*cmp)(const struct tree *, const struct tree *); };
struct hash { struct { struct tree t; } *p; struct hash *(*lookup)(struct hash *, anon_t *); };
struct table {
	fns many;
	matrix m;
	names_t names;
	int (*grid)[5];
	int (*(*deep)(int (*)[2], char *restrict))[7];
	void *(*const alloc[2])(unsigned long, ...);
	variadic *print;
	signal_t *sig;
	volatile int *const vp;
	const struct tree *ct;
	struct { int a; } anonymous_array[2][2];
	enum { IN_TABLE = 3 } kind;
	const volatile unsigned char cv;
	char text[16];
	_Bool (*pred)(void);
	both *b;
	both_e e;
	struct { both_e inner; anon_t anon; } pair;
};
#if defined(__clang__) && !defined(NO_TAGS)
#define TAG(x) __attribute__((btf_type_tag(x)))
#define DECL(x) __attribute__((btf_decl_tag(x)))
struct DECL("s") tagged { int TAG("user") *p; int TAG("a") TAG("b") *const *q; int m DECL("m"); };
struct tagged use_tagged DECL("v");
DECL("f") __attribute__((noinline)) int tagged_fn(int a DECL("p")) { return a; }
#endif
struct visitor use_visitor; struct table use_table; struct hash use_hash; tree_t use_tree;
static int hidden = 4;
extern int outside;
__attribute__((noinline)) static int quiet(struct hash *h, int n) { return n + hidden; }
__attribute__((noinline)) int loud(struct hash *h, visit_t v) { return quiet(h, 3) + use_table.kind; }
__attribute__((section("socket"))) int prog(void *ctx) { return loud(ctx, 0); }
char _license[] __attribute__((section("license"))) = "GPL";

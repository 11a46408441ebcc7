/*
 * magic.h - the numbers of file systems in statfs(2): those of linux/magic.h, and those that it has not, or had not
 * before Linux 5.17.
 */
#ifndef FILELOCK_MAGIC_H
#define FILELOCK_MAGIC_H

#include <linux/magic.h>

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xff534d42UL
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42UL
#endif
#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400UL
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546UL
#endif
#ifndef EXFAT_MAGIC
#define EXFAT_MAGIC 0x2011bab0UL
#endif
#ifndef NTFS3_MAGIC
#define NTFS3_MAGIC 0x7366746eUL
#endif
#ifndef BCACHEFS_MAGIC
#define BCACHEFS_MAGIC 0xca451a4eUL
#endif
#ifndef ZFS_MAGIC
#define ZFS_MAGIC 0x2fc12fc1UL
#endif

#endif
